"""The tensor graph, in which formulas and traced models mean the same."""
