"""Dead letters: jobs that failed for good, until somebody replays or discards them."""
