"""The language of `.gauge` files: text to tree to checked gauge."""
