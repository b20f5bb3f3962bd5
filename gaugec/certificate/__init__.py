"""What a compiled file says of itself: written, sealed, read back and shown. `pipeline.recheck` checks it again."""
