"""`gaugec demo`: the main job on a small real Llama."""
