"""A run whose files a crash of the machine left damaged: what is intact is kept, the rest is set aside and made again.

A killed process damages nothing, as files are replaced atomically. A disk that lost its last writes may.
"""

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import PROGRESS, SUMMARY, Progress, RunFolder
from supsup_methods.state_files import set_aside


def sweep(folder: RunFolder) -> None:
    """Remove what writes that never ended left behind. Only for the process that holds the run's lock."""
    for place in (folder.path, folder.bank):
        for partial in place.glob(".*.partial"):
            partial.unlink(missing_ok=True)


def mended_progress(folder: RunFolder) -> tuple[Progress, list[str]]:
    """Return how far a run has come, or a fresh record where its own cannot be read, and a line for each such file."""
    notes = []
    for name, read in ((SUMMARY, folder.summary), (PROGRESS, folder.progress)):
        if not (folder.path / name).exists():
            continue
        try:
            read()
        except UsageError as damage:
            aside = set_aside(folder.path / name)
            notes.append(f"{damage.args[0].split(';')[0]}; it is set aside as {aside.name} and made again")
    return folder.progress(), notes
