"""Numbers on disk and on their way to a model: token store, batch plan, batches."""
