"""The file of the queue: one table of jobs, that several processes read and change at once."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from supsup_methods.errors import UsageError

DATABASE = "queue.db"
OPEN = "state IN ('waiting', 'running')"
"""Which jobs are open, in SQL; an index knows them, however many there were."""

_VERSION = 1
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    command TEXT NOT NULL,
    about TEXT NOT NULL,
    place TEXT,
    device TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'waiting',
    status INTEGER,
    pid INTEGER,
    asked TEXT NOT NULL
)""",
    f"CREATE UNIQUE INDEX IF NOT EXISTS one_a_place ON jobs (place) WHERE {OPEN}",
    f"CREATE INDEX IF NOT EXISTS open_jobs ON jobs (number) WHERE {OPEN}",
)
_LATER_COLUMNS = ("visible_devices TEXT",)  # that files of earlier versions lack


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction; it is made, or completed, where that was not done yet.

    Raises:
        UsageError: it is damaged, or cannot be opened.
    """
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            _complete(connection)
            yield connection
    except sqlite3.Error as error:
        raise UsageError(
            f"{path}: the queue cannot be read ({error}); try again, and if it stays so restore the file from a copy, or remove "
            "it: the list of jobs goes, runs stay"
        ) from None


def _complete(connection: sqlite3.Connection) -> None:
    """Make the table, or what it lacks where an earlier version made it."""
    if connection.execute("PRAGMA user_version").fetchone() == (_VERSION,):
        return
    connection.execute("BEGIN IMMEDIATE")  # of several who see it unfinished, one after another comes here
    for statement in _SCHEMA:
        connection.execute(statement)
    there = {name for _, name, *_ in connection.execute("PRAGMA table_info(jobs)")}
    for column in _LATER_COLUMNS:
        if column.split()[0] not in there:
            connection.execute(f"ALTER TABLE jobs ADD COLUMN {column}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.commit()
