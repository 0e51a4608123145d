"""Errors of supsup-datasets: one line that names what was given, the rule it breaks and the way out."""


class DatasetError(ValueError):
    """Data or a stream that cannot be used as asked."""


class DataUnavailable(DatasetError):
    """Data that is not where it was looked for, cannot be read, or is damaged."""
