"""From a run folder to a translator: what the Python API and the verbs share."""
