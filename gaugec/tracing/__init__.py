"""From a model to the tensor graph: export at every size that matters, and lowering."""
