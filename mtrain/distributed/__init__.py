"""Training and validation over several processes."""
