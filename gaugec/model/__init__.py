"""The user's model as a guest: its inputs, how it is run, and that it is left as it was."""
