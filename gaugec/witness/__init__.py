"""The numeric witness: the exported graph, run at a random element of every gauge, and the model's own gradient."""
