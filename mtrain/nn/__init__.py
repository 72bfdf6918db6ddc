"""Building blocks of models: attention, positions, layers. Plain arguments, never a config."""
