"""The record of a result: what a run found, with what, on what. Runs write it, reproduction and dashboard read it."""

from importlib.metadata import version
from platform import python_version
from typing import (
    Any,
    NotRequired,  # pydantic asks for this one before Python 3.12
)

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from supsup_methods import plugins


class Accuracies(TypedDict):
    """Fractions after a number of learned tasks."""

    tasks_learned: int
    accuracy: float
    """Of images, averaged over tasks."""
    task_inference_accuracy: float | None
    """Of test batches given to the right task; None where the task was given."""
    forgetting: float | None
    """See `metrics`; None with a single task."""
    backward_transfer: float | None
    """See `metrics`; None with a single task."""


class Summary(TypedDict):
    """What summary.json holds: fractions, seconds and bytes, with all that they depend on."""

    recipe: str
    method: str
    scenario: str
    seed: int
    device: str
    machine: str
    data: str
    tasks: int
    checkpoints: list[Accuracies]
    accuracy_per_task: list[float]
    seconds: dict[str, float]
    bytes: dict[str, int]
    settings: dict[str, Any]
    versions: dict[str, str]
    finished: str
    allocation: NotRequired[dict[str, float | None]]
    """How masks go with true tasks, where nobody said when a task begins (`mask_bookkeeping.Bookkeeping`)."""


def record_schema() -> dict[str, Any]:
    """Return the JSON schema of a record."""
    return TypeAdapter(Summary).json_schema()


def installed_versions() -> dict[str, str]:
    """Return what a record's `versions` holds of this installation: the packages', torch's, Python's, and those of plug-ins."""
    versions = {name: version(name) for name in ("supsup-core", "supsup-datasets", "supsup-methods", "torch")}
    return {**versions, "python": python_version(), **plugins.versions()}
