"""The studies: each says which runs it wants, does one of them, and makes a table of all; see `harness.Study`."""
