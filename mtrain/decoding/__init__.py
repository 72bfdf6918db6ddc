"""From source lines to target lines: search over the model contract, and the stream of lines."""
