"""The order of the stages: verify, compile, find, repair, recheck. Nothing else knows it."""
