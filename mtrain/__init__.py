"""mtrain: a trainer for machine translation. Importing it imports no torch."""

__version__ = "0.1.0"
