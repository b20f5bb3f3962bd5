"""Gauges that nobody has written: found in a model's tensor graph, and said as spec text that is then proved.

What is found here is a conjecture.  `gaugec.pipeline.suggest` has the text proved and matched as any spec is.
"""
