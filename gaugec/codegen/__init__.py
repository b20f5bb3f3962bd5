"""From sites to the source of a PyTorch module: derive, plan, emit."""
