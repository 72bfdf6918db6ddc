"""The verbs, a file each: the only place where the parts are wired together."""
