"""The commands, one file each: they connect the other packages."""
