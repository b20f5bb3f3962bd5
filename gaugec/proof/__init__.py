"""The prover: formulas and subgraphs in an index normal form; equal normal forms are a proof."""
