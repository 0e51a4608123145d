"""A task in training that is kept now and then: whoever goes on ends with the same bits, and does not begin again."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods import batch_ensemble, lower_bound, psp, separate_heads, snapshots, supsup, upper_bound
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.dense_training import DenseTraining
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.separate_heads import HeadTraining, SeparateHeadsSettings
from supsup_methods.snapshots import Snapshots, snapshot_path
from supsup_methods.state_files import read_tensors, write_tensors
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training_length import Schedule, TaskTraining
from supsup_methods.upper_bound import UpperBoundSettings

from . import dense_problems
from .dense_problems import fully_connected
from .test_running import Stop, Watcher, results
from .vision_problems import CPU, EDGE_POPUP, LABELS, TRANSFER, files, module, stream

BATCH = 8
IMAGES = 19
STEPS = 6  # 19 images are two batches of 8 and one of 3, twice
COSINE = Schedule("cosine")
DENSE = DenseTraining(epochs=2, batch_size=BATCH, schedule=COSINE, learning_rate=0.01, optimizer="adam")
HEADS = HeadTraining(epochs=2, batch_size=BATCH, schedule=COSINE)
VECTORS = TaskTraining(epochs=2, batch_size=BATCH, schedule=COSINE)
MASKS = replace(EDGE_POPUP.training, epochs=2)


def flat():
    return fully_connected(40, (12,), LABELS)


def deep():
    """Return layers whose names have another order as text: 1, 3, ... 11."""
    return fully_connected(40, (6,) * 5, LABELS)


METHODS = {
    "supsup, edge-popup": (supsup.KIND, replace(EDGE_POPUP, training=MASKS), module),
    "supsup, transfer": (supsup.KIND, replace(TRANSFER, training=MASKS), module),
    "supsup, threshold": (
        supsup.KIND,
        SupSupSettings(training=MaskTraining(epochs=2, batch_size=BATCH, learning_rate=0.01)),
        flat,
    ),
    "upper bound": (upper_bound.KIND, UpperBoundSettings(training=DENSE, carry_on=True), module),
    "lower bound": (lower_bound.KIND, LowerBoundSettings(training=DENSE), module),
    "separate heads": (separate_heads.KIND, SeparateHeadsSettings(training=HEADS), module),
    "psp": (psp.KIND, PspSettings(training=replace(DENSE, optimizer="rmsprop")), flat),
    "psp, deep": (psp.KIND, PspSettings(training=replace(DENSE, optimizer="rmsprop")), deep),
    "batch-ensemble": (batch_ensemble.KIND, BatchESettings(training=VECTORS), module),
    "batch-ensemble with heads": (batch_ensemble.KIND, BatchESettings(training=VECTORS, last_layer="head"), flat),
}


class Counted:
    """A task's images that count the batches they were asked to make."""

    def __init__(self, images):
        self._images = images
        self.made = 0

    def __len__(self):
        return len(self._images)

    def shuffled(self, *arguments, **keywords):
        for batch in self._images.shuffled(*arguments, **keywords):
            self.made += 1
            yield batch


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("in-training-*"))


class Run:
    """A method over a folder, with one task after the other in training, each kept after every step."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind, self.settings, self.backbone = METHODS[name]
        self.bank, self.folder = folder / "bank", folder
        self.told = self.made = 0
        self.notes: list[str] = []

    def learn(self, tasks: int, stop_after: int | None = None) -> "Run":
        """Learn what is left of some tasks in a process of its own, which ends behind its so many-th step."""
        kept = Snapshots(self.folder, 0.0)
        problem = replace(dense_problems.problem(backbone=self.backbone), snapshots=kept)
        method = self.kind.open(self.bank, self.settings, problem, lambda tasks: tasks).method
        while method.tasks_learned < tasks:
            task = stream(IMAGES)[method.tasks_learned]
            counted = Counted(task.train)
            try:
                method.learn([replace(task, train=counted)], lambda: self._tell(stop_after))
            finally:
                self.made += counted.made
                self.notes += kept.notes
                kept.notes.clear()
            method.save(self.bank)
            kept.forget((task.index,))
        return self

    def _tell(self, stop_after):
        self.told += 1
        if self.told == stop_after:
            raise Stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of each method after so many tasks without a stop."""
    ends = {}

    def of(name, tasks=2):
        if name not in ends:
            ends[name] = tmp_path_factory.mktemp("whole")
            for learned in (1, 2):
                run = Run(name, ends[name] / f"{learned}").learn(learned)
                assert run.told == run.made == learned * STEPS
                assert kept_in(run.folder) == []
        return ends[name] / f"{tasks}"

    return of


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_a_task_stopped_behind_any_step_goes_on_from_there_to_the_same_bits(name, task, whole, tmp_path):
    for done in range(STEPS):  # the step in which it is stopped is not kept
        folder = tmp_path / str(done)
        if task:
            shutil.copytree(whole(name, task), folder)
        with pytest.raises(Stop):
            Run(name, folder).learn(task + 1, stop_after=done + 1)
        if done:
            assert read_tensors(snapshot_path(folder, task), CPU)[1] == done
        run = Run(name, folder).learn(task + 1)
        assert files(run.bank) == files(whole(name, task + 1) / "bank")
        assert run.made == STEPS - done, "batches that were seen are not made again"
        assert run.told == STEPS, "but they are told, so that a bar stands where it stood"
        assert run.notes == []
        assert kept_in(run.folder) == []


@pytest.mark.parametrize("name", METHODS)
def test_a_task_goes_on_whether_the_task_before_came_from_memory_or_from_a_file(name, whole, tmp_path):
    with pytest.raises(Stop):
        Run(name, tmp_path).learn(2, stop_after=STEPS + 4)  # from memory
    assert read_tensors(snapshot_path(tmp_path, 1), CPU)[1] == 3
    run = Run(name, tmp_path).learn(2)  # from a file
    assert (files(run.bank), run.made, run.notes) == (files(whole(name, 2) / "bank"), STEPS - 3, [])


@pytest.mark.parametrize("name", ["supsup, edge-popup", "lower bound"])
def test_a_task_stopped_again_and_again_ends_with_the_same_bits(name, whole, tmp_path):
    for done in range(STEPS - 1):
        with pytest.raises(Stop):
            Run(name, tmp_path).learn(1, stop_after=done + 2)
        assert read_tensors(snapshot_path(tmp_path, 0), CPU)[1] == done + 1
    run = Run(name, tmp_path).learn(1)
    assert (files(run.bank), run.made) == (files(whole(name, 1) / "bank"), 1)


def stopped(name, folder, steps):
    with pytest.raises(Stop):
        Run(name, folder).learn(2, stop_after=steps)
    return snapshot_path(folder, (steps - 1) // STEPS)


def flip(position):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        flip(-9),
        flip(3),
        flip(40),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
    ],
)
@pytest.mark.parametrize("name", ["supsup, edge-popup", "upper bound"])
def test_what_was_kept_and_damaged_is_set_aside_and_the_task_learned_from_its_start(name, damage, whole, tmp_path):
    path = stopped(name, tmp_path, STEPS + 5)
    damage(path)
    damaged = path.read_bytes()
    run = Run(name, tmp_path).learn(2)
    assert files(run.bank) == files(whole(name) / "bank")
    assert run.made == STEPS
    (note,) = run.notes
    assert note.startswith(f"{path}: it")
    assert note.endswith("; the task is learned from its start; it is now in-training-000001.safetensors.damaged-1")
    assert "\n" not in note
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == damaged
    assert not path.exists()


@pytest.mark.parametrize("name", ["supsup, edge-popup", "upper bound", "batch-ensemble"])
def test_what_was_kept_of_another_task_is_passed_over(name, whole, tmp_path):
    """As after a stop between the moment that a task is saved and the one that its file is removed."""
    path = stopped(name, tmp_path / "a", 5)
    content = path.read_bytes()
    with pytest.raises(Stop):
        Run(name, tmp_path / "b").learn(2, stop_after=STEPS + 1)
    snapshot_path(tmp_path / "b", 1).write_bytes(content)
    run = Run(name, tmp_path / "b").learn(2)
    assert files(run.bank) == files(whole(name) / "bank")
    assert (run.made, run.notes) == (STEPS, [])


def kept_values(path, tasks=(0,), seconds=0.0, **values):
    state = {"x": torch.zeros(2), "steps": torch.zeros((), dtype=torch.int64)}
    store = Snapshots(path, seconds)
    return store, state, store.restore(tasks, state)


def test_tensors_are_written_in_place_with_their_step(tmp_path):
    store, state, step = kept_values(tmp_path)
    assert step == 0
    state["x"] += torch.tensor([1.5, -2.0])
    state["steps"] += 7
    store.offer((0,), 7, state)
    _, again, step = kept_values(tmp_path)
    assert step == 7
    assert again["x"].tolist() == [1.5, -2.0]
    assert int(again["steps"]) == 7


@pytest.mark.parametrize("others", [(1,), (0, 1), (1, 0)])
def test_they_are_those_of_exactly_these_tasks(others, tmp_path):
    store, state, _ = kept_values(tmp_path, tasks=(0,))
    state["x"] += 1
    store.offer((0,), 7, state)
    other, untouched, step = kept_values(tmp_path, tasks=others)
    assert (step, untouched["x"].tolist(), other.seconds_before, other.notes) == (0, [0.0, 0.0], 0.0, [])
    assert snapshot_path(tmp_path, 0).exists()


@pytest.mark.parametrize(
    "state",
    [
        {"x": torch.zeros(3), "steps": torch.zeros((), dtype=torch.int64)},
        {"x": torch.zeros(2)},
        {"x": torch.zeros(2), "steps": torch.zeros((), dtype=torch.int64), "more": torch.zeros(1)},
    ],
)
def test_tensors_of_another_training_are_set_aside_and_none_is_written(state, tmp_path):
    store, kept, _ = kept_values(tmp_path)
    kept["x"] += 1
    store.offer((0,), 7, kept)
    other = Snapshots(tmp_path, 0.0)
    assert other.restore((0,), state) == 0
    assert not state["x"].any()
    (note,) = other.notes
    assert note.startswith(f"{snapshot_path(tmp_path, 0)}: it holds ")
    assert note.endswith("; the task is learned from its start; it is now in-training-000000.safetensors.damaged-1")
    assert other.seconds_before == 0.0


def test_a_file_is_forgotten_once_and_again_and_nothing_is_kept_without_a_place(tmp_path):
    store, state, _ = kept_values(tmp_path)
    store.offer((0,), 1, state)
    store.forget((0,))
    store.forget((0,))
    assert kept_in(tmp_path) == []
    assert kept_values(tmp_path)[2] == 0
    nowhere, state, step = kept_values(None)
    nowhere.offer((0,), 1, state)
    nowhere.forget((0,))
    assert (step, list(tmp_path.iterdir())) == (0, [])


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(snapshots.time, "monotonic", lambda: self.now)


def test_the_file_is_written_when_its_seconds_are_over_and_not_before(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    store, state, _ = kept_values(tmp_path, seconds=300.0)
    steps = {}
    for step in range(1, 101):
        clock.now += 10
        store.offer((0,), step, state)
        if kept_in(tmp_path):
            steps[step] = read_tensors(snapshot_path(tmp_path, 0), CPU)[1]
    assert sorted(set(steps.values())) == [30, 60, 90]
    assert min(steps) == 30
    clock.now += 10_000
    store.restore((1,), state)  # the next task begins, and with it the time
    store.offer((1,), 1, state)
    assert read_tensors(snapshot_path(tmp_path, 0), CPU)[1] == 90
    assert len(kept_in(tmp_path)) == 1


def test_seconds_of_all_processes_add_up(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    store, state, _ = kept_values(tmp_path)
    for pause, total in ((10.0, 10.0), (5.0, 15.0), (2.5, 17.5)):
        clock.now += pause
        store.offer((0,), 1, state)
        store.offer((0,), 2, state)
        clock.now += 1e6  # nobody trains
        store, state, _ = kept_values(tmp_path)
        assert store.seconds_before == total
    store.restore((1,), state)
    assert store.seconds_before == 0.0


SMALL_RUN = Recipe(
    name="small",
    tasks=2,
    backbone=FullyConnected(hidden=(8,), outputs=10),
    method=SupSupSettings(training=MaskTraining(batches=10)),
    evaluation=Evaluation(scenario="GG", batch_size=1000),
)


def carried_out(path, observer):
    folder = RunFolder(path)
    if not path.exists():
        path.mkdir()
        folder.begin(SMALL_RUN, describe_environment(CPU, embedded_mnist(), None))
    return execute(folder, SMALL_RUN, embedded_mnist(), CPU, observer, snapshot_seconds=0.0)


def test_a_run_counts_the_seconds_before_its_stop(tmp_path):
    with pytest.raises(Stop):
        carried_out(tmp_path / "run", Watcher(stop_at=6))
    path = snapshot_path(tmp_path / "run", 0)
    kept, step = read_tensors(path, CPU)
    assert step == 4
    kept["seconds in training"] += 1e6
    write_tensors(path, kept, step)
    summary = carried_out(tmp_path / "run", Watcher())
    seconds = RunFolder(tmp_path / "run").progress().train_seconds
    assert seconds[0] >= 1e6 > seconds[1]
    assert summary["seconds"]["train"] == sum(seconds.values())


def test_a_run_tells_of_a_damaged_file_and_ends_as_if_there_had_been_none(tmp_path):
    with pytest.raises(Stop):
        carried_out(tmp_path / "run", Watcher(stop_at=6))
    flip(-9)(snapshot_path(tmp_path / "run", 0))
    watcher = Watcher()
    summary = carried_out(tmp_path / "run", watcher)
    (note,) = [call[1] for call in watcher.calls if call[0] == "noted"]
    assert note.endswith("; the task is learned from its start; it is now in-training-000000.safetensors.damaged-1")
    assert results(summary) == results(carried_out(tmp_path / "whole", Watcher()))
    assert files(tmp_path / "run" / "bank") == files(tmp_path / "whole" / "bank")
    assert [path.name for path in kept_in(tmp_path / "run")] == ["in-training-000000.safetensors.damaged-1"]


def test_tasks_side_by_side_are_kept_together(tmp_path):
    kind, settings, backbone = METHODS["supsup, threshold"]

    def learned(folder, stop_after=None):
        told = []

        def tell():
            told.append(1)
            if len(told) == stop_after:
                raise Stop

        problem = replace(dense_problems.problem(backbone=backbone), snapshots=Snapshots(folder, 0.0))
        method = kind.open(folder / "bank", settings, problem, lambda tasks: tasks).method
        tasks = stream(IMAGES)
        method.learn([tasks[task] for task in range(2)], tell)
        method.save(folder / "bank")
        return files(folder / "bank")

    expected = learned(tmp_path / "whole")
    for steps in (1, 7, 2 * STEPS):
        with pytest.raises(Stop):
            learned(tmp_path / f"{steps}", stop_after=steps)
        assert learned(tmp_path / f"{steps}") == expected
