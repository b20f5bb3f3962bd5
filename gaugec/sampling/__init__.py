"""The independent check: numbers at random points and at the smallest cases, without the prover and its laws."""
