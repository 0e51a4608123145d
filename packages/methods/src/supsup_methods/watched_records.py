"""What was seen of a mask while it was trained again, as values and as a file of the run's folder (`watched_training`)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from supsup_core.atomic_files import replace_file

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import RunFolder

BINS = 64
"""Of a histogram of scores; the edge between the middle two is 0, where a threshold mask turns."""

_PREFIX, _SUFFIX = "watched-", ".json"


@dataclass(frozen=True)
class WatchedLayer:
    """A layer's scores and mask at each moment; shares are fractions of its weights."""

    layer: str
    weights: int
    score_limit: float
    """The bins of `scores` are equal parts of [-score_limit, score_limit)."""
    scores: tuple[tuple[int, ...], ...]
    """By moment, how many scores are in each bin."""
    density: tuple[float, ...]
    """Share of ones."""
    unlike_final: tuple[float, ...]
    """Share of bits that differ from the mask at the end."""
    flipped: tuple[float, ...]
    """Share of bits that turned since the moment before."""


@dataclass(frozen=True)
class WatchedTraining:
    """How the mask of a task formed.

    Raises:
        ValueError: the parts do not go together.
    """

    task: int
    moments: tuple[int, ...]
    """After how many steps the others are: 0, some, all."""
    loss: tuple[float | None, ...]
    """Cross-entropy of the batch that comes next, in nats, as its step sees it; of the last one again after the last step. None
    where that batch is passed over, as a single image has no statistics."""
    layers: tuple[WatchedLayer, ...]
    bits: int
    bits_unlike_run: int
    """In how many bits the mask differs from the one that the run has."""
    statistics_as_run: bool
    """Whether running statistics of normalisation layers are those that the run has, to the last bit."""
    unlike_run: tuple[str, ...]
    """What was different from the run, so that the last bits may be: device, machine, tasks at once, torch."""
    machine: str
    seconds: float
    run: str = ""
    """Of which run it is (`RunFolder.digest`), as a folder may come to hold another; nothing in older records."""

    def __post_init__(self) -> None:
        by_moment = [self.loss, *(part for each in self.layers for part in _by_moment(each))]
        if not self.layers or any(len(part) != len(self.moments) for part in by_moment):
            raise ValueError("not as many values as moments")
        if any(len(counts) != BINS for each in self.layers for counts in each.scores):
            raise ValueError(f"not {BINS} bins")

    @property
    def as_run(self) -> bool:
        """Whether it ended with the bits that the run has."""
        return self.bits_unlike_run == 0 and self.statistics_as_run


def watched_path(run: Path, task: int) -> Path:
    """Return the file of a run's folder that holds what was seen of a task."""
    return run / f"{_PREFIX}{task:06d}{_SUFFIX}"


def watched_tasks(run: Path) -> list[int]:
    """Return the tasks of a run that were watched, from the names of its files."""
    parts = (path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for path in run.glob(f"{_PREFIX}*{_SUFFIX}"))
    return sorted(int(part) for part in parts if part.isdecimal())


def write_watched(run: Path, watched: WatchedTraining) -> Path:
    """Write what was seen of a task into the run's folder, and return the file.

    Raises:
        UsageError: the folder does not hold the run that was watched.
    """
    if RunFolder(run).digest != watched.run:
        raise UsageError(
            f"{run}: the run that was watched is gone, and perhaps another in its place; watch one that is there"
        )
    path = watched_path(run, watched.task)
    replace_file(path, (json.dumps(asdict(watched)) + "\n").encode())
    return path


def read_watched(run: Path, task: int) -> WatchedTraining | None:
    """Return what was seen of a task; None where nobody watched, or it was another run that had the folder.

    Raises:
        UsageError: the file is damaged.
    """
    path = watched_path(run, task)
    again = f"watch it again: supsup-eval {run} --watch-task {task}"
    try:
        watched = _WATCHED.validate_python(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; {again}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}); {again}") from None
    return watched if watched.run in ("", RunFolder(run).digest) else None


def _by_moment(layer: WatchedLayer) -> Sequence[Sequence[object]]:
    return layer.scores, layer.density, layer.unlike_final, layer.flipped


_WATCHED = TypeAdapter(WatchedTraining)
