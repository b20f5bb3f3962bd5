"""`python -m gaugec` is the `gaugec` command."""

from gaugec.cli import main

main()
