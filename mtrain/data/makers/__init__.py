"""From rows of a token store to batches, a file a form: padded, packed."""
