"""What a compiled file says of itself: written, and read back as text.

What reading and loading share lives in the runtime: the seal, the unfolding and the report (`gaugec.runtime.seal`,
`.certificate`, `.report`).  `gaugec.pipeline.recheck` checks a certificate again.
"""
