"""Errors of supsup-core.

Every message is one line that names the argument, the value given, the rule it breaks and the way out.
"""


class SupsupError(Exception):
    """Anything that supsup-core refuses."""


class InvalidArgument(SupsupError, ValueError):
    """An argument breaks a rule that its docstring states."""


class NetworkMismatch(SupsupError, ValueError):
    """Contexts belong to a network with other frozen weights than the one given."""


class CorruptBank(SupsupError):
    """A bank's files are damaged, incomplete, or not a bank."""


class FolderInUse(SupsupError):
    """A folder holds something else that writing would change."""
