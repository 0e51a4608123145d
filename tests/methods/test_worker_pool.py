"""Runs whose tasks are learned by processes of their own: the bits, the files and the calls of one process."""

import dataclasses
import multiprocessing
import os
import signal

import pytest
import torch
from supsup_core import InvalidArgument
from supsup_datasets import embedded_mnist
from supsup_methods import running
from supsup_methods.assembly import refuse_impossible
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.dense_training import DenseTraining
from supsup_methods.errors import UsageError, WorkerLost
from supsup_methods.evaluation import evaluate_task
from supsup_methods.experiment import Evaluation, FullyConnected
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.registry import kind_of
from supsup_methods.run_environment import adopt_environment, describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.separate_heads import HeadTraining, SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import OneShot
from supsup_methods.training_length import TaskTraining
from supsup_methods.upper_bound import UpperBoundSettings

from ..contracts.settings import VARIANTS
from .test_running import CPU, RECIPE, Stop, Watcher, results

TASKS = 5
SUPSUP = dataclasses.replace(RECIPE, tasks=TASKS, evaluation=Evaluation(checkpoints=(1, 3)))
UPPER_BOUND = dataclasses.replace(
    SUPSUP,
    backbone=FullyConnected(hidden=(20,), outputs=10),
    method=UpperBoundSettings(training=DenseTraining(batches=10)),
    evaluation=Evaluation(scenario="GG", checkpoints=(1, 3)),
)
RECIPES = {
    "supsup": SUPSUP,
    "upper-bound": UPPER_BOUND,
    "batch-ensemble": dataclasses.replace(
        UPPER_BOUND, method=BatchESettings(training=TaskTraining(batches=10), last_layer="head")
    ),
    "batch-ensemble over random weights": dataclasses.replace(
        UPPER_BOUND, method=BatchESettings(training=TaskTraining(batches=10), trunk="random")
    ),
    "separate-heads": dataclasses.replace(UPPER_BOUND, method=SeparateHeadsSettings(training=HeadTraining(batches=10))),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Train by one thread here too, as the processes do: the number decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def begin(path, recipe, processes, tasks_at_once=1, **changes):
    path.mkdir()
    folder, others = RunFolder(path), [CPU] * (processes - 1)
    environment = describe_environment(CPU, embedded_mnist(), None, tasks_at_once, others)
    folder.begin(recipe, dataclasses.replace(environment, **changes))
    return folder


def run(folder, recipe, observer=None, **options):
    return execute(folder, recipe, embedded_mnist(), CPU, observer or Watcher(), **options)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the folder of a run of one process, by the name of its recipe and its tasks at once."""
    folders = {}

    def folder_of(name, tasks_at_once=1):
        key = (name, tasks_at_once)
        if key not in folders:
            folders[key] = begin(tmp_path_factory.mktemp(name) / "alone", RECIPES[name], 1, tasks_at_once)
            run(folders[key], RECIPES[name])
        return folders[key]

    return folder_of


def assert_same_run(folder, other):
    files, expected = ({path.name: path.read_bytes() for path in each.bank.iterdir()} for each in (folder, other))
    assert files == expected
    some, others = (results(each.summary()) for each in (folder, other))
    assert some.pop("device").startswith(others.pop("device"))
    assert some == others
    assert not list(folder.path.glob("in-training*"))


@pytest.mark.parametrize(("name", "tasks_at_once"), [("supsup", 2), *((name, 1) for name in RECIPES)])
def test_several_processes_learn_the_bits_of_one(tmp_path, alone, name, tasks_at_once):
    folder, watcher = begin(tmp_path / "run", RECIPES[name], 2, tasks_at_once), Watcher()
    run(folder, RECIPES[name], watcher)
    assert_same_run(folder, alone(name, tasks_at_once))
    told = [call for call in watcher.calls if call[0] in ("learned", "tested")]
    tested = {tasks: [("tested", tasks)] for tasks in (1, 3, TASKS)}
    if tasks_at_once == 1:
        assert told == [call for task in range(1, TASKS + 1) for call in [("learned", task), *tested.get(task, [])]]
    assert watcher.calls.count("batch trained") == 10 * TASKS
    assert multiprocessing.active_children() == []


INFERRED = dataclasses.replace(SUPSUP, tasks=6, evaluation=Evaluation(checkpoints=(1, 4)))
BATCHE_INFERRED = dataclasses.replace(
    INFERRED, method=BatchESettings(training=TaskTraining(batches=10), trunk="random", inference=OneShot())
)


@pytest.mark.parametrize("recipe", [INFERRED, BATCHE_INFERRED], ids=["supsup", "batch-ensemble"])
def test_processes_share_the_tests_where_tasks_are_inferred(tmp_path, monkeypatch, recipe):
    other = begin(tmp_path / "alone", recipe, 1)
    run(other, recipe)
    here = []
    monkeypatch.setattr(
        running, "evaluate_task", lambda *some, **named: here.append(some[1].index) or evaluate_task(*some, **named)
    )
    folder, watcher = begin(tmp_path / "run", recipe, 2), Watcher()
    run(folder, recipe, watcher)
    assert_same_run(folder, other)
    assert folder.progress().checkpoints[-1].scores == other.progress().checkpoints[-1].scores
    assert here == [0, 0, 1, 2, 3, 4, 5], "first tests, and the checkpoint of one task"
    assert watcher.calls.count("batch tested") == 8 * (1 + 4 + 6)
    assert watcher.calls.count("batch trained") == 10 * 6


@pytest.mark.parametrize("checkpoint", [4, 6])
def test_a_run_that_is_stopped_while_processes_test_goes_on_to_the_same_end(tmp_path, checkpoint):
    """After the sixth task nothing is left to learn, and processes are started for the tests alone."""

    class Stopped(Processes):
        def batch_tested(self):
            if self.calls[-1] == ("learned", checkpoint):
                raise Stop

    other = begin(tmp_path / "alone", INFERRED, 1)
    run(other, INFERRED)
    folder, watcher = begin(tmp_path / "run", INFERRED, 2), Stopped()
    with pytest.raises(Stop):
        run(folder, INFERRED, watcher)
    assert folder.tasks_saved == checkpoint
    assert multiprocessing.active_children() == []
    again = Processes()
    run(folder, INFERRED, again)
    assert len(again.pids) == 2
    assert again.calls[0] == ("begun", checkpoint)
    assert_same_run(folder, other)


def test_a_process_that_is_killed_while_it_tests_ends_the_run_in_one_line(tmp_path):
    class Killer(Processes):
        def batch_tested(self):
            if self.calls[-1] == ("learned", 6):
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            super().batch_tested()

    folder = begin(tmp_path / "run", INFERRED, 2)
    with pytest.raises(WorkerLost, match="was ended by SIGKILL"):
        run(folder, INFERRED, Killer())
    assert multiprocessing.active_children() == []
    assert (folder.tasks_saved, len(folder.progress().checkpoints)) == (6, 2)
    run(folder, INFERRED)
    assert folder.is_done


def test_more_devices_than_tasks_are_no_harm(tmp_path):
    recipe = dataclasses.replace(SUPSUP, tasks=1, evaluation=Evaluation())
    folder, watcher = begin(tmp_path / "run", recipe, 3), Processes()
    run(folder, recipe, watcher)
    assert len(watcher.pids) == 1
    assert folder.summary()["device"] == "cpu,cpu,cpu"


class Processes(Watcher):
    """Remembers which processes trained."""

    def __init__(self, stop_at=None, kill_at=None):
        super().__init__(stop_at)
        self.kill_at = kill_at
        self.pids = set()

    def note(self, call):
        children = multiprocessing.active_children()
        self.pids |= {child.pid for child in children}
        super().note(call)
        if len(self.calls) == self.kill_at:
            os.kill(children[0].pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "stop_at"), [("supsup", 1), ("supsup", 25), ("supsup", 60), *(("separate-heads", n) for n in (5, 15, 40))]
)
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on_to_the_same_end(tmp_path, alone, name, stop_at):
    folder, watcher = begin(tmp_path / "run", RECIPES[name], 2), Processes(stop_at)
    with pytest.raises(Stop):
        run(folder, RECIPES[name], watcher, snapshot_seconds=0.0)
    assert multiprocessing.active_children() == []
    for pid in watcher.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    run(folder, RECIPES[name])
    assert_same_run(folder, alone(name))


def test_the_task_that_trains_what_all_share_is_learned_before_processes_start(tmp_path):
    name = "batch-ensemble"
    folder, watcher = begin(tmp_path / "run", RECIPES[name], 2), Processes(stop_at=12)
    with pytest.raises(Stop):
        run(folder, RECIPES[name], watcher)
    assert watcher.calls[:12] == [("begun", 0), *["batch trained"] * 10, ("learned", 1)]
    assert watcher.pids == set()


def test_each_group_in_training_has_a_file_of_its_own(tmp_path, alone):
    class Stopped(Watcher):
        """Stops as soon as two tasks are in training."""

        def batch_trained(self):
            self.seen = sorted(path.name for path in folder.path.glob("in-training-*.safetensors"))
            if len(self.seen) > 1 and f"in-training-{folder.tasks_saved:06d}.safetensors" in self.seen:
                raise Stop  # not while a process that began first is a task ahead

    recipe = dataclasses.replace(SUPSUP, method=SupSupSettings(training=MaskTraining(batches=200)))
    folder, watcher = begin(tmp_path / "run", recipe, 2), Stopped()
    with pytest.raises(Stop):
        run(folder, recipe, watcher, snapshot_seconds=0.0)
    assert len(watcher.seen) > 1
    saved = folder.path / f"in-training-{folder.tasks_saved:06d}.safetensors"
    assert saved.name in watcher.seen
    stale = folder.path / "in-training-000000.safetensors"
    run(folder, recipe, Watcher(), snapshot_seconds=1e9)
    assert not list(folder.path.glob("in-training*"))
    other = begin(tmp_path / "other", recipe, 1)
    run(other, recipe)
    assert_same_run(folder, other)
    stale.write_bytes(b"of a task that was saved")
    run(folder, recipe)
    assert not stale.exists()


def test_a_process_that_is_killed_ends_the_run_in_one_line_and_loses_nothing_that_is_saved(tmp_path, alone):
    folder = begin(tmp_path / "run", SUPSUP, 2)
    with pytest.raises(WorkerLost, match=r"--device cpu: .* was ended by SIGKILL.*go on with: supsup-train --resume"):
        run(folder, SUPSUP, Processes(kill_at=15))
    assert multiprocessing.active_children() == []
    kept = folder.tasks_saved
    watcher = Watcher()
    run(folder, SUPSUP, watcher)
    assert watcher.calls[0] == ("begun", kept)
    assert_same_run(folder, alone("supsup"))


def test_what_goes_wrong_in_a_process_is_told_as_if_it_had_been_here(tmp_path):
    diverging = dataclasses.replace(UPPER_BOUND.method.training, learning_rate=1e6, batches=40)
    # RMSprop moves each weight by about the rate, and seven layers of weights of 1e6 are beyond float32.
    deep = FullyConnected(hidden=(20,) * 6, outputs=10)
    recipe = dataclasses.replace(UPPER_BOUND, backbone=deep, method=UpperBoundSettings(training=diverging))
    with pytest.raises(InvalidArgument, match="the weights diverged to infinity or NaN; lower it"):
        run(begin(tmp_path / "run", recipe, 2), recipe)
    assert multiprocessing.active_children() == []


def test_a_process_that_finds_other_data_says_so(tmp_path):
    with pytest.raises(UsageError, match="data MNIST-5k: it changed while the run went on"):
        run(begin(tmp_path / "run", SUPSUP, 2, data_digest="0" * 64), SUPSUP)


def test_the_environment_says_which_processes_there_were():
    torch.set_num_threads(2)
    two = describe_environment(CPU, embedded_mnist(), None, others=[CPU])
    assert (two.device, two.devices, two.threads) == ("cpu,cpu", ("cpu", "cpu"), 1)
    three = describe_environment(CPU, embedded_mnist(), None, others=[CPU, CPU])
    assert three.threads == 1, "none is left without"
    one = describe_environment(CPU, embedded_mnist(), None)
    assert (one.device, one.devices, one.threads) == ("cpu", ("cpu",), 2)
    with pytest.raises(UsageError, match="--device cpu: the run was started with cpu,cpu and goes on only with that"):
        adopt_environment(two, one)


TRANSFER = {"supsup, transfer": dataclasses.replace(VARIANTS["supsup"], masks=EdgePopupMasks(transfer=True))}


@pytest.mark.parametrize("name", sorted(VARIANTS | TRANSFER))
def test_methods_whose_tasks_need_each_other_are_refused(name):
    settings = (VARIANTS | TRANSFER)[name]
    scenario = {"supsup-unknown-tasks": "NNs", "supsup": "GNu"}.get(settings.kind, "GG")
    recipe = dataclasses.replace(SUPSUP, method=settings, evaluation=Evaluation(scenario=scenario))
    if name != "supsup, transfer" and kind_of(settings).apart_from(settings) is not None:
        refuse_impossible(recipe, embedded_mnist(), devices=[CPU, CPU])
    elif settings.kind != "hopsupsup":  # which is refused already: it needs another network
        refuse_impossible(recipe, embedded_mnist())
        with pytest.raises(
            UsageError, match=f"--device: 2 devices, and {settings.kind} learns a task from .* name one device"
        ):
            refuse_impossible(recipe, embedded_mnist(), devices=[CPU, CPU])
