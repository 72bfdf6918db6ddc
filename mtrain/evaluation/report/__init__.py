"""The report of a run as one HTML page: no network, no script, no other file."""
