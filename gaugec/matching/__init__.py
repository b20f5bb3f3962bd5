"""Where in a model's graph a gauge may hold: candidates, each closed under the flow of moved values."""
