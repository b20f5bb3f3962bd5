"""What a compiled gauge needs while training: optimizers, linear algebra, loading. Imports torch, never the compiler."""
