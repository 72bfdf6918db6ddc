"""Training: objectives, optimiser, schedule, updates, the training loop, checkpoints and log."""
