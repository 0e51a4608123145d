"""What `supsup-eval` asks of a run: which searches, over which tasks, and what came out; and what it stores."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, assert_never, get_args

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from supsup_core.atomic_files import replace_file

from supsup_methods.commands.byte_questions import ask_about_bytes
from supsup_methods.commands.exits import Interrupted
from supsup_methods.commands.mask_questions import Asked, ask_about_unknown, ask_to_merge, refuse_no_more_tasks
from supsup_methods.commands.option_parser import parse_options
from supsup_methods.commands.watch_questions import ask_to_watch, device_to_watch_on
from supsup_methods.continual_method import AllocatesMasks, OverContexts
from supsup_methods.devices import describe_machine, resolve_device
from supsup_methods.errors import UsageError
from supsup_methods.inference_comparison import Compared, compare
from supsup_methods.registry import inference_of
from supsup_methods.runs import Run, open_run
from supsup_methods.task_guessing import MOST_STEPS, Descent, EveryTask, Gamma, OneShot, TaskInference
from supsup_methods.watched_training import refuse_unwatchable

Search: TypeAlias = Literal[
    "one-shot-h", "one-shot-g", "gamma-h", "gamma-g", "every-h", "every-m", "every-max-logit", "descent-h", "descent-g"
]

_USUAL: tuple[Search, ...] = ("one-shot-h", "gamma-h", "every-h", "every-m", "every-max-logit", "descent-h")


_MOST_UNKNOWN = 10_000


@dataclass(frozen=True)
class Question:
    """Find the task of a finished run's test images in other ways, and compare how often, how surely and how fast."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    searches: tuple[Search, ...] | None = None
    """one-shot: a gradient of the blend; gamma: rounds that keep a share (0.5 is Binary); every: try each task; descent: on α.
    The objective is H (entropy), G (superfluous neurons), M (confidence), or the largest logit. All but those with G by default;
    none by default where bytes or --watch-task are asked for."""
    images_per_guess: int = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""
    gamma: float = 0.5
    """Share of the tasks that stay in each round of gamma."""
    steps: int = 10
    """Steps of descent."""
    tasks: int | None = None
    """How many tasks' test images are shown, from the first on; all by default. A search always chooses among all tasks."""
    batch_size: int | None = None
    """Test images that belong together; the run's own by default."""
    calibration_guesses: int = 32
    """Guesses on training images of each task, from which the temperature of confidences is fitted."""
    unknown_tasks: int = 0
    """Tasks that were never learned, shown as well: how often they pass for learned ones, and learned ones for unknown, by ε."""
    merge: bool = False
    """Whether to look for masks that serve one task, and to merge them: masks and accuracy before and after."""
    epsilon: float = 0.125
    """ε of merging: how far above uniform ν must be for a mask to stand in for another."""
    merged_bank: Path | None = None
    """Folder to write the merged bank to; it must not exist."""
    bytes: bool = False
    """Whether to tell what the run stores, whatever its method: files, the paper's way of counting (Table 2), coded masks."""
    watch_task: int | None = None
    """Task whose mask is trained again, as it was, and looked at while it forms; the run keeps what was seen."""
    data_root: Path | None = None
    """Folder that holds the data; where the run learned from it by default."""
    device: str = "auto"
    """auto (a GPU if there is one; with --watch-task as the run), cpu, cuda, or cuda:N."""
    summary: Path | None = None
    """File to write the answers to, as JSON; it must not exist."""

    @property
    def compares(self) -> bool:
        """Whether searches are compared."""
        return self.searches is not None or not (self.bytes or self.watch_task is not None)


def parse_question(argv: list[str]) -> Question:
    """Return what the command line asks.

    Raises:
        UsageError: an option or value is not understood or breaks a rule.
        SystemExit: help was asked for, and given.
    """
    question = parse_options(Question, argv, prog="supsup-eval")
    for name, value in (
        ("images-per-guess", question.images_per_guess),
        ("steps", question.steps),
        ("tasks", question.tasks),
        ("batch-size", question.batch_size),
        ("calibration-guesses", question.calibration_guesses),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: it should be 1 or more; choose another value")
    if not 0 < question.gamma < 1:
        raise UsageError(f"--gamma {question.gamma}: a share of the tasks lies between 0 and 1; 0.5 is Binary")
    if question.steps > MOST_STEPS:
        raise UsageError(f"--steps {question.steps}: each is kept; choose {MOST_STEPS} or fewer")
    if not 0 <= question.unknown_tasks <= _MOST_UNKNOWN:
        raise UsageError(
            f"--unknown-tasks {question.unknown_tasks}: it should be from 0 to {_MOST_UNKNOWN}; choose another value"
        )
    if not 0 <= question.epsilon < float("inf"):
        raise UsageError(f"--epsilon {question.epsilon}: it should be 0 or more; choose another value")
    if question.merged_bank is not None and not question.merge:
        raise UsageError(f"--merged-bank {question.merged_bank}: nothing is merged; add --merge, or leave it out")
    if question.merged_bank is not None and question.merged_bank.exists():
        raise UsageError(f"--merged-bank {question.merged_bank}: it exists and is not overwritten; choose another name")
    if question.searches == ():
        raise UsageError(f"--searches: none is named; choose from {', '.join(get_args(Search))}")
    if question.summary is not None and question.summary.exists():
        raise UsageError(f"--summary {question.summary}: it exists and is not overwritten; choose another name")
    if question.summary is not None and question.summary.parent.resolve() == question.run.resolve():
        raise UsageError(f"--summary {question.summary}: the run's own files are there; choose a place outside of it")
    if question.summary is not None and not question.summary.parent.is_dir():
        raise UsageError(
            f"--summary {question.summary}: the folder {question.summary.parent} does not exist; create it first"
        )
    return question


def ask(question: Question) -> None:
    """Open the run, ask it, print tables, and write the answers if that was asked for.

    Raises:
        Interrupted: somebody stopped it; it says what was written before.
    """
    written: list[str] = []
    try:
        _ask(question, written)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; {' and '.join(written) or 'nothing'} was written") from None


def _ask(question: Question, written: list[str]) -> None:
    """Ask, and note what is written as soon as it is."""
    console, watched = Console(highlight=False), question.watch_task
    device = resolve_device(question.device) if watched is None else device_to_watch_on(question.run, question.device)
    run = open_run(question.run, device, question.data_root)
    asked = _checked(question, run)
    answers: dict[str, Any] = {"run": str(question.run), "machine": describe_machine(device)}
    if question.bytes:
        answers["bytes"] = ask_about_bytes(console, run, asked)
    if question.compares and isinstance(run.method, OverContexts) and not isinstance(run.method, AllocatesMasks):
        answers["searches"] = _ask_searches(console, question, run, run.method, asked.tasks)
    if question.unknown_tasks:
        answers["unknown_tasks"] = ask_about_unknown(console, run, asked, question.unknown_tasks)
    if question.merge:
        answers["merged"], bank = ask_to_merge(console, run, asked, question.epsilon)
        if question.merged_bank is not None:
            bank.save(question.merged_bank)
            written.append(f"--merged-bank {question.merged_bank}")
    if watched is not None:
        answers["watched"] = ask_to_watch(console, run, watched)
        written.append(f"what was seen of task {watched}")
    if question.summary is not None:
        replace_file(question.summary, (json.dumps(answers, indent=1) + "\n").encode())
        console.print(f"written to [bold]{escape(str(question.summary))}[/]", soft_wrap=True)


def _checked(question: Question, run: Run) -> Asked:
    """Return how the question is put to this run.

    Raises:
        UsageError: it cannot be asked so.
    """
    method, of_masks = run.method, bool(question.unknown_tasks or question.merge)
    searchable = isinstance(method, OverContexts) and inference_of(run.recipe.method) is not None
    if (question.compares or of_masks) and not searchable:
        raise UsageError(
            f"{question.run}: {run.recipe.method.kind} searches no contexts for the task, so there is nothing to compare; choose "
            "a run of supsup, or of batch-ensemble without heads, or ask for --bytes alone"
        )
    if method.tasks_learned == 0:
        raise UsageError(
            f"{question.run}: no task is learned yet; go on with supsup-train --resume --out {question.run}"
        )
    if question.watch_task is not None:
        refuse_unwatchable(run, question.watch_task)
    shown = question.tasks or method.tasks_learned
    if shown > method.tasks_learned:
        raise UsageError(f"--tasks {shown}: the run has learned {method.tasks_learned}; choose fewer")
    if isinstance(method, AllocatesMasks) and question.compares and (question.searches or not of_masks):
        raise UsageError(
            f"{question.run}: the masks of {run.recipe.method.kind} are no tasks, and searches for one cannot be compared; ask "
            "for --unknown-tasks N or --merge or --bytes, without --searches"
        )
    asked = Asked(shown, question.batch_size or run.recipe.evaluation.batch_size, question.images_per_guess)
    if question.unknown_tasks:
        refuse_no_more_tasks(run, question.unknown_tasks)
    if question.unknown_tasks and asked.images_per_guess > asked.batch_size:
        raise UsageError(
            f"--images-per-guess {asked.images_per_guess}: {asked.batch_size} test images belong together; choose so many or "
            "fewer, or a larger --batch-size"
        )
    return asked


def _ask_searches(console: Console, question: Question, run: Run, method: OverContexts, shown: int) -> dict[str, Any]:
    """Compare the searches, print a table and return their figures."""
    tasks, labels = [run.stream[index] for index in range(shown)], run.stream[0].num_labels
    searches = question.searches or _USUAL
    _refuse_g(searches, run, labels)
    found = compare(
        method.net,
        method.bank,
        labels,
        tasks,
        [_settings(search, question) for search in searches],
        question.batch_size or run.recipe.evaluation.batch_size,
        question.calibration_guesses,
        run.recipe.seed,
    )
    named = dict(zip(searches, found, strict=True))
    console.print(_table(run, run.method.tasks_learned, named))
    return {name: _answer(each) for name, each in named.items()}


def _refuse_g(searches: Sequence[Search], run: Run, labels: int) -> None:
    asks = [search for search in searches if search.endswith("-g")]
    if asks and run.recipe.backbone.outputs <= labels:
        raise UsageError(
            f"--searches {asks[0]}: with {run.recipe.backbone.outputs} outputs and {labels} labels no neuron is superfluous, so "
            "G has no gradient; ask for H"
        )


def _settings(search: Search, question: Question) -> TaskInference:
    images = question.images_per_guess
    match search:
        case "one-shot-h" | "one-shot-g":
            return OneShot(objective="H" if search == "one-shot-h" else "G", images_per_guess=images)
        case "gamma-h" | "gamma-g":
            return Gamma(share=question.gamma, objective="H" if search == "gamma-h" else "G", images_per_guess=images)
        case "every-h":
            return EveryTask(objective="H", images_per_guess=images)
        case "every-m":
            return EveryTask(objective="M", images_per_guess=images)
        case "every-max-logit":
            return EveryTask(objective="max-logit", images_per_guess=images)
        case "descent-h" | "descent-g":
            objective: Literal["H", "G"] = "H" if search == "descent-h" else "G"
            return Descent(objective=objective, steps=question.steps, images_per_guess=images)
        case _:
            assert_never(search)


def _table(run: Run, learned: int, found: dict[Search, Compared]) -> Table:
    table = Table(title=f"{escape(str(run.path))}: {learned} tasks learned, {run.recipe.method.kind}, scenario GNu")
    for column in ("search", "accuracy", "tasks inferred right", "ECE", "ECE calibrated", "ms a guess"):
        table.add_column(column, justify="left" if column == "search" else "right", no_wrap=column == "search")
    for name, each in found.items():
        table.add_row(
            name,
            f"{each.accuracy:.2%}",
            f"{sum(score.guesses_right for score in each.scores)} of {each.guesses}",
            f"{each.calibration_error:.3f}",
            f"{each.calibrated_error:.3f}",
            f"{1e3 * each.median_seconds_per_guess:.2f}",
        )
    return table


def _answer(compared: Compared) -> dict[str, Any]:
    """Return the figures of a search: fractions and seconds."""
    return {
        "settings": asdict(compared.settings),
        "accuracy": compared.accuracy,
        "task_inference_accuracy": compared.task_inference_accuracy,
        "guesses": compared.guesses,
        "confusion": {str(score.task): score.guessed for score in compared.scores},
        "calibration_error": compared.calibration_error,
        "calibrated_error": compared.calibrated_error,
        "temperature": compared.temperature,
        "seconds_per_guess": compared.median_seconds_per_guess,
    }
