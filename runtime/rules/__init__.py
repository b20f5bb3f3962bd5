"""Update rules: how a step follows from gradients. Each is one module that ends in an `UpdateRule`."""
