"""The commands: the only modules that read argv."""
