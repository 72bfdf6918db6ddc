"""Loads a run folder as a translator, for the Python API and the commands."""
