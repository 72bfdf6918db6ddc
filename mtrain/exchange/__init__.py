"""Exchange with other programs: a model in their formats."""
