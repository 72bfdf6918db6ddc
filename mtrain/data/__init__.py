"""Training data: data folders, token store, batch plan, batches."""
