"""Several processes: groups that train together, and the independent shards of a job."""
