"""What every registered method must do, whatever it learns: one suite over all of them."""

import dataclasses
import inspect
import itertools

import pytest
import torch
from supsup_core import CorruptBank, InvalidArgument, atomic_files, bank_files
from supsup_datasets import Scenario, Unlabelled
from supsup_methods import recipe_files, run_folder, state_files
from supsup_methods.assembly import build_problem, open_method, refuse_impossible, stored_bytes
from supsup_methods.continual_method import AllocatesMasks, RecoversMasks
from supsup_methods.data_assembly import build_stream
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import evaluate_task
from supsup_methods.experiment import Evaluation, FullyConnected, NormalisedFullyConnected, Recipe
from supsup_methods.registry import KINDS, inference_of, kind_of
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute

from ..methods.problems import dataset
from ..methods.test_running import Stop, Watcher, results
from .settings import SMALL, VARIANTS

CPU = torch.device("cpu")
TASKS = 3


def scenario_of(settings):
    """Return the hardest scenario that suits tasks with the same labels."""
    kind = kind_of(settings)
    return "GNs" if kind.masks_units else kind.scenarios(settings)[-1].value


def recipe_of(kind, seed=0, tasks=TASKS, checkpoints=(2,)):
    method = VARIANTS[kind]
    backbone = NormalisedFullyConnected if kind_of(method).masks_units else FullyConnected
    return Recipe(
        name="small",
        tasks=tasks,
        seed=seed,
        backbone=backbone(hidden=(64, 32), outputs=12),
        method=method,
        evaluation=Evaluation(scenario=scenario_of(method), batch_size=9, checkpoints=checkpoints),
    )


def fresh(kind, folder, seed=0, whole_groups=None):
    recipe = recipe_of(kind, seed)
    return open_method(recipe, build_problem(recipe, dataset(), CPU), folder, whole_groups).method


def stream(kind):
    return build_stream(recipe_of(kind), dataset())


def learn(method, kind, tasks):
    for index in tasks:
        method.learn([stream(kind)[index]], lambda: None)
    return method


def answers(method, kind):
    return [answer(method, stream(kind)[task]) for task in range(method.tasks_learned)]


def answer(method, task):
    images = task.test.batch(torch.arange(20)).images
    if isinstance(method, RecoversMasks):
        return method.logits_under(images, method.recover(Unlabelled(task.test)).masks)
    if isinstance(method, AllocatesMasks):
        (found,) = method.infer_each([images])
        return method.logits(images, found.task)
    return method.logits(images, task.index)


def same(some, others):
    return len(some) == len(others) and all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def images_right(method, task):
    """Return how many test images are right if the method is told as much as can be: task, or right mask.

    Whether a mask is found again is another matter: that takes wider layers than a small problem has.
    """
    if isinstance(method, RecoversMasks):
        score = evaluate_task(method, task, Scenario.GNs, batch_size=9)
        return round(score.recovery.right_mask_accuracy * score.images)
    if isinstance(method, AllocatesMasks):
        return evaluate_task(method, task, Scenario.NNs, batch_size=9).images_right
    return evaluate_task(method, task, Scenario.GG, batch_size=9).images_right


kinds = pytest.mark.parametrize("kind", sorted(SMALL))


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Return each method after three tasks, learned once for all tests that only ask it."""
    methods = {}

    def method_of(kind):
        if kind not in methods:
            methods[kind] = learn(fresh(kind, tmp_path_factory.mktemp(kind) / "none"), kind, range(TASKS))
        return methods[kind]

    return method_of


def test_every_registered_method_is_here():
    assert {kind.settings().kind for kind in KINDS.values()} == set(SMALL)
    assert all(type(settings) in KINDS for settings in SMALL.values())


@kinds
def test_it_learns_and_beats_chance(kind, learned):
    method = learned(kind)
    assert method.tasks_learned == TASKS
    # 63 images of 3 labels: by chance 21 right, with a standard deviation of 3.7.
    assert images_right(method, stream(kind)[TASKS - 1]) > 21 + 5 * 3.7


@kinds
def test_it_counts_its_batches(kind, tmp_path):
    seen = []
    method = fresh(kind, tmp_path / "none")
    method.learn([stream(kind)[0]], lambda: seen.append(1))
    assert len(seen) == SMALL[kind].training.steps(len(stream(kind)[0].train))


@kinds
def test_earlier_answers_stay_bitwise_as_they_were_or_it_says_that_they_do_not(kind, learned, tmp_path):
    early = learn(fresh(kind, tmp_path / "none"), kind, range(2))
    before, after = answers(early, kind), answers(learned(kind), kind)[:2]
    then = learned(kind).first(2)
    if then is None:
        assert not same(before, after), "it says that learning more changes what was learned"
    else:
        assert same(before, after) or isinstance(then, AllocatesMasks), "a mask may be found again and trained on"
        assert then.tasks_learned == 2
        assert same(answers(then, kind), before)
    assert learned(kind).first(TASKS) is not None


@kinds
def test_it_tells_tasks_apart_or_says_that_it_cannot(kind, learned):
    method, task = learned(kind), stream(kind)[1]
    recipe = recipe_of(kind)
    untold = dataclasses.replace(recipe, evaluation=Evaluation(scenario="GNu"))
    if isinstance(method, RecoversMasks):
        assert_it_is_shown_images_alone(method, task)
        told = dataclasses.replace(recipe, evaluation=Evaluation(scenario="GG"))
        with pytest.raises(
            UsageError, match=f"--evaluation.scenario GG: {kind} keeps no mask by task; choose GNs or GNu"
        ):
            refuse_impossible(told, dataset())
        with pytest.raises(UsageError, match="has the same labels in all tasks; choose GNs, or a stream"):
            refuse_impossible(untold, dataset())
        with pytest.raises(UsageError, match="a given one says nothing to it"):
            evaluate_task(method, task, Scenario.GG, batch_size=9)
        return
    if method.infer_each is None:
        assert inference_of(recipe.method) is None
        with pytest.raises(UsageError, match="must be given"):
            evaluate_task(method, task, Scenario.GNu, batch_size=9)
        with pytest.raises(UsageError, match=f"--evaluation.scenario GNu: {kind} must be given the task"):
            refuse_impossible(untold, dataset())
        return
    assert inference_of(recipe.method) is not None
    if isinstance(method, AllocatesMasks):
        with pytest.raises(UsageError, match=f"--evaluation.scenario GNu: {kind} is never told the task; choose NNs"):
            refuse_impossible(untold, dataset())
    else:
        refuse_impossible(untold, dataset())
    assert list(inspect.signature(method.infer_each).parameters) == ["batches"], "neither labels nor the true task"
    batches = [batch.images for index in range(TASKS) for batch in stream(kind)[index].test.in_order(9)]
    together = method.infer_each(batches)
    assert [guess.task for guess in together] == [method.infer_each([batch])[0].task for batch in batches]
    assert all(0 <= guess.task < TASKS and 0 < guess.confidence <= 1 for guess in together)
    assert len({guess.task for guess in together}) > 1, "it looks at the images"


def assert_it_is_shown_images_alone(method, task):
    class Images:
        """What would betray labels or task is not there."""

        def __len__(self):
            return len(task.test)

        def mixed(self, batch_size, generator, smallest=1):
            return Unlabelled(task.test).mixed(batch_size, generator, smallest)

    assert list(inspect.signature(method.recover).parameters) == ["images"]
    shown, found = method.recover(Images()).masks, method.recover(Unlabelled(task.test)).masks
    assert all(torch.equal(shown[name], found[name]) for name in found)


@kinds
def test_it_opens_as_it_was_saved_and_goes_on_as_if_never_stopped(kind, learned, tmp_path):
    first = learn(fresh(kind, tmp_path / "files"), kind, range(2))
    first.save(tmp_path / "files")
    first.save(tmp_path / "files")  # again changes nothing
    opened = fresh(kind, tmp_path / "files")
    assert opened.tasks_learned == 2
    assert same(answers(opened, kind), answers(first, kind))
    assert opened.bytes == first.bytes
    learn(opened, kind, [2]).save(tmp_path / "files")
    assert same(answers(fresh(kind, tmp_path / "files"), kind), answers(learned(kind), kind))


@kinds
def test_seeds_decide_everything(kind, learned, tmp_path):
    assert same(answers(learn(fresh(kind, tmp_path / "none"), kind, range(TASKS)), kind), answers(learned(kind), kind))
    other = learn(fresh(kind, tmp_path / "none", seed=1), kind, range(1))
    assert not same(answers(other, kind), answers(learned(kind), kind)[:1])


@kinds
def test_bytes_are_those_of_its_files(kind, learned, tmp_path):
    method = learned(kind)
    method.save(tmp_path / "files")
    sizes = [path.stat().st_size for path in (tmp_path / "files").rglob("*") if path.is_file()]
    # Beside the numbers, each file has a header: names, shapes and checksums.
    assert method.bytes.total <= sum(sizes) <= method.bytes.total + 4096 * len(sizes)
    assert method.bytes.total == method.bytes.contexts + method.bytes.shared + method.bytes.buffers
    assert stored_bytes(recipe_of(kind), dataset()) == pytest.approx(method.bytes.total, rel=0.1)


@kinds
def test_a_damaged_file_is_found_and_what_is_lost_is_learned_again(kind, learned, tmp_path):
    learned(kind).save(tmp_path / "files")
    largest = max(
        (path for path in (tmp_path / "files").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[-9] ^= 1
    largest.write_bytes(content)
    with pytest.raises(CorruptBank):  # reading changes nothing, and does not answer from damaged files
        answers(fresh(kind, tmp_path / "files"), kind)
    opened = fresh(kind, tmp_path / "files", whole_groups=lambda tasks: tasks)
    kept = opened.tasks_learned
    assert kept < TASKS
    assert same(answers(learn(opened, kind, range(kept, TASKS)), kind), answers(learned(kind), kind))


@kinds
@pytest.mark.parametrize("stop_at", [50, 122, 124, 260, 370])
def test_a_run_of_it_stopped_anywhere_ends_as_if_it_had_not(kind, stop_at, tmp_path):
    runs = [begun(tmp_path / name, recipe_of(kind)) for name in ("whole", "stopped")]
    whole, stopped = runs
    expected = execute(whole, recipe_of(kind), dataset(), CPU, Watcher())
    with pytest.raises(Stop):
        execute(stopped, recipe_of(kind), dataset(), CPU, Watcher(stop_at))
    kept, watcher = open_run_of(stopped, recipe_of(kind)).tasks_learned, Watcher()
    summary = execute(stopped, recipe_of(kind), dataset(), CPU, watcher)
    assert watcher.calls[0] == ("begun", kept), "nothing is noted, for nothing is forgotten"
    left = [len(stream(kind)[task].train) for task in range(kept, TASKS)]
    assert watcher.calls.count("batch trained") == sum(VARIANTS[kind].training.steps(images) for images in left)
    assert results(summary) == results(expected)
    assert same(*(answers(open_run_of(folder, recipe_of(kind)), kind) for folder in runs))
    assert summary["checkpoints"][-1]["forgetting"] is not None


class Crash(Exception):
    pass


def crashing(monkeypatch, at, after):
    """Have the at-th replacement of a file be the last thing that happens, before or after it is done."""
    calls = itertools.count(1)

    def replace_file(path, content):
        number = next(calls)
        if number == at and not after:
            raise Crash
        atomic_files.replace_file(path, content)
        if number == at:
            raise Crash

    for module in (state_files, run_folder, bank_files):
        monkeypatch.setattr(module, "replace_file", replace_file)


def begun(path, recipe):
    folder = RunFolder(path)
    path.mkdir()
    folder.begin(recipe, describe_environment(CPU, dataset(), None))
    return folder


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_crash_between_any_two_files_loses_nothing(name, tmp_path, monkeypatch):
    settings = VARIANTS[name]
    shorter = {"epochs": 1} if hasattr(settings.training, "epochs") else {"batches": 4}
    settings = dataclasses.replace(settings, training=dataclasses.replace(settings.training, **shorter))
    recipe = dataclasses.replace(recipe_of(settings.kind, tasks=2, checkpoints=(1,)), method=settings)
    evaluation = dataclasses.replace(recipe.evaluation, scenario=scenario_of(settings))
    recipe = dataclasses.replace(recipe, evaluation=evaluation)
    whole = begun(tmp_path / "whole", recipe)
    execute(whole, recipe, dataset(), CPU, Watcher())
    expected = answers(open_run_of(whole, recipe), settings.kind)
    for at in itertools.count(1):
        for after in (False, True):
            folder = begun(tmp_path / f"{at}-{after}", recipe)
            with monkeypatch.context() as patch:
                crashing(patch, at, after)
                try:
                    execute(folder, recipe, dataset(), CPU, Watcher())
                except Crash:
                    pass
                else:
                    assert at > 5, "a run of two tasks replaces more files than that"
                    return
            kept, watcher = open_run_of(folder, recipe).tasks_learned, Watcher()
            summary = execute(folder, recipe, dataset(), CPU, watcher)
            (what, begun_with), *_ = watcher.calls
            assert what == "begun", "nothing is noted, for nothing is forgotten"
            assert begun_with >= kept, "what a first save has written is found, though nothing names it yet"
            assert same(answers(open_run_of(folder, recipe), settings.kind), expected)
            assert results(summary) == results(whole.summary())


def open_run_of(folder, recipe):
    return open_method(recipe, build_problem(recipe, dataset(), CPU), folder.bank, None).method


@kinds
def test_tasks_are_learned_in_turn(kind, tmp_path):
    method = fresh(kind, tmp_path / "none")
    with pytest.raises(InvalidArgument, match="task 1: 0 tasks are learned, and they are learned in turn"):
        method.learn([stream(kind)[1]], lambda: None)
    assert method.tasks_learned == 0


@kinds
def test_its_recipe_survives_json(kind):
    recipe = recipe_of(kind)
    assert recipe_files.from_json(recipe_files.to_json(recipe), "here") == recipe
    assert recipe_files.checked(recipe) == recipe


@kinds
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_it_learns_on_a_gpu(kind, tmp_path):
    recipe = recipe_of(kind)
    data = dataset().to(torch.device("cuda"))
    method = open_method(recipe, build_problem(recipe, data, torch.device("cuda")), tmp_path / "none", None).method
    tasks = build_stream(recipe, data)
    for index in range(TASKS):
        method.learn([tasks[index]], lambda: None)
    assert images_right(method, tasks[TASKS - 1]) > 21 + 5 * 3.7
