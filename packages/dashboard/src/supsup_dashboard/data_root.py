"""The one folder of full data that is offered for new runs: named where the dashboard is started, and nowhere else."""

import os
from pathlib import Path

from supsup_methods.errors import UsageError

_VARIABLE = "SUPSUP_DATA_ROOT"

HOW_TO_NAME_IT = f"start the dashboard with `{_VARIABLE}=DIR streamlit run apps/dashboard.py`"
"""For pages that would need it."""


def data_root() -> Path | None:
    """Return the folder that SUPSUP_DATA_ROOT names; None where it names none.

    Raises:
        UsageError: there is no such folder.
    """
    named = os.environ.get(_VARIABLE)
    if not named:
        return None
    path = Path(named)
    if not path.is_dir():
        raise UsageError(f"{_VARIABLE}={named}: there is no such folder; check the path")
    return path.resolve()
