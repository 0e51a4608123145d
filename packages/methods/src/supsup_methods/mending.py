"""A run whose files a crash of the machine left damaged: what is intact is kept, the rest is set aside and made again.

A killed process damages nothing, as files are replaced atomically. A disk that lost its last writes may.
"""

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import BANK, ENVIRONMENT, PROGRESS, RECIPE, STRETCHES, SUMMARY, Progress, RunFolder
from supsup_methods.snapshots import SNAPSHOTS
from supsup_methods.state_files import set_aside


def sweep(folder: RunFolder) -> None:
    """Remove what writes of the run that never ended left behind. Only for the process that holds the run's lock.

    Who asks the run something writes beside it, under no lock: those writes are left alone.
    """
    own = [f".{name}.*.partial" for name in (RECIPE, ENVIRONMENT, PROGRESS, STRETCHES, SUMMARY, SNAPSHOTS)]
    for pattern in (*own, f"{BANK}/.*.partial"):
        for partial in folder.path.glob(pattern):
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
