"""Translation of source lines: search over the model contract, and streams of lines."""
