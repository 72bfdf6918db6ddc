"""Checkpoints on disk, and the weights of a model from and into them."""
