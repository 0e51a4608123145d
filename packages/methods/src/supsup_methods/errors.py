"""Errors of supsup-methods: one line that names what was given, the rule it breaks and the way out."""


class UsageError(ValueError):
    """A recipe, an option, a device or a folder that cannot be used as asked."""


class WorkerLost(Exception):
    """A process that trained for the run ended by itself, or was ended; the run can go on from what is kept."""
