"""Checkpoints on disk, and how to put their weights into a model."""
