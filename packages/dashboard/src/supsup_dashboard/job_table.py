"""Jobs of the queue as a table, one of which can be chosen; on every page it is the same one."""

from collections.abc import Sequence

import pandas as pd

from supsup_dashboard.moments import local_time, moment_column
from supsup_dashboard.queueing.jobs import Job
from supsup_dashboard.row_choice import choose_in_table

_HEIGHT_PIXELS = 250


def choose_job(jobs: Sequence[Job], key: str) -> Job | None:
    """Show jobs and return the one that is chosen: it stays chosen while others come and end.

    Args:
        jobs: in the order in which they are shown.
        key: of the table.
    """
    places = choose_in_table(
        jobs_table(jobs),
        [job.number for job in jobs],
        key,
        mode="single-row",
        column_config={"asked for": moment_column()},
        height=_HEIGHT_PIXELS if len(jobs) > 5 else "auto",
        alt="Jobs of the queue",
    )
    return jobs[places[0]] if places else None


def jobs_table(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return a row for each job; exit statuses below 0 are signals that ended it."""
    return pd.DataFrame(
        {
            "job": [job.number for job in jobs],
            "what": [job.about for job in jobs],
            "state": [job.outcome for job in jobs],
            "exit status": pd.array([job.status for job in jobs], dtype="Int64"),
            "where": ["" if job.place is None else str(job.place) for job in jobs],
            "device": [job.device for job in jobs],
            "asked for": [local_time(job.asked) for job in jobs],
        }
    )
