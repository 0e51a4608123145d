import dataclasses
import os
import shutil

import pytest
import torch
from supsup_core import MaskBank
from supsup_datasets import Scenario, embedded_mnist
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import evaluate_task
from supsup_methods.experiment import Evaluation
from supsup_methods.mask_training import MaskTraining
from supsup_methods.recipes import RECIPES
from supsup_methods.result_records import record_schema
from supsup_methods.run_environment import adopt_environment, describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import find_runs, open_run
from supsup_methods.supsup import SupSupSettings

RECIPE = dataclasses.replace(
    RECIPES["demo"],
    tasks=3,
    method=SupSupSettings(training=MaskTraining(batches=10)),
    evaluation=Evaluation(checkpoints=(1, 2)),
)
CPU = torch.device("cpu")


class Stop(Exception):
    pass


class Watcher:
    """Records what it is told, and stops the run at a chosen call."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.calls = []

    def note(self, call):
        self.calls.append(call)
        if len(self.calls) == self.stop_at:
            raise Stop

    def begun(self, tasks_learned):
        self.note(("begun", tasks_learned))

    def batch_trained(self):
        self.note("batch trained")

    def task_learned(self, tasks_learned, seconds):
        self.note(("learned", tasks_learned))

    def batch_tested(self):
        self.note("batch tested")

    def tested(self, checkpoint):
        self.note(("tested", checkpoint.tasks_learned))

    def noted(self, message):
        self.note(("noted", message))


def begin(path):
    path.mkdir()
    folder = RunFolder(path)
    folder.begin(RECIPE, describe_environment(CPU, embedded_mnist(), None))
    return folder


def run(folder, observer=None):
    return execute(folder, RECIPE, embedded_mnist(), CPU, observer or Watcher())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, its summary, and every call its observer got."""
    folder, watcher = begin(tmp_path_factory.mktemp("runs") / "whole"), Watcher()
    return folder, run(folder, watcher), watcher.calls


def results(summary):
    return {key: value for key, value in summary.items() if key not in ("seconds", "finished")}


def test_a_run_tells_its_observer_everything_in_order(whole):
    _, _, calls = whole
    tests = {tasks: ["batch tested"] * 8 * tasks + [("tested", tasks)] for tasks in (1, 2, 3)}
    expected = [("begun", 0)]
    for tasks in (1, 2, 3):
        expected += ["batch trained"] * 10 + [("learned", tasks)] + tests[tasks]
    assert calls == expected


def test_the_summary_says_what_was_measured(whole):
    folder, summary, _ = whole
    assert summary == folder.summary()
    assert sorted(record_schema()["required"]) == sorted(summary), "whoever reads records can rely on every field"
    assert summary["accuracy_per_task"] == [score.accuracy for score in folder.progress().checkpoints[-1].scores]
    assert [entry["tasks_learned"] for entry in summary["checkpoints"]] == [1, 2, 3]
    assert all(0 <= entry["accuracy"] <= 1 for entry in summary["checkpoints"])
    assert summary["bytes"] == {"contexts": 3 * 34_400, "shared": 0, "buffers": 0, "total": 3 * 34_400}
    assert summary["seconds"].keys() == {"train", "infer", "first_tests"}
    expected = {"recipe": "demo", "method": "supsup", "scenario": "GNu", "seed": 0, "device": "cpu"}
    expected |= {"data": "MNIST-5k", "tasks": 3}
    assert expected.items() <= summary.items()


@pytest.mark.parametrize("stop_at", [1, 5, 11, 12, 15, 20, 21, 40, 48, 49, 60, 75])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not(tmp_path, whole, stop_at):
    whole_folder, whole_summary, _ = whole
    folder = begin(tmp_path / "run")
    with pytest.raises(Stop):
        run(folder, Watcher(stop_at))
    kept = len(open_run(folder.path).bank)
    watcher = Watcher()
    summary = run(folder, watcher)
    assert watcher.calls[0] == ("begun", kept)
    assert watcher.calls.count("batch trained") == 10 * (3 - kept), "only the task in flight is learned again"
    assert results(summary) == results(whole_summary)
    bank, whole_bank = open_run(folder.path).bank, open_run(whole_folder.path).bank
    assert torch.equal(bank.rows, whole_bank.rows)


def grouped(path):
    recipe = dataclasses.replace(RECIPE, tasks=5, evaluation=Evaluation(checkpoints=(3,)))
    path.mkdir()
    folder = RunFolder(path)
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None, tasks_at_once=2))
    return folder, recipe


@pytest.mark.parametrize("stop_at", [3, 15, 22, 23, 30, 40])
def test_a_run_of_tasks_side_by_side_stops_and_goes_on_in_whole_groups(tmp_path, stop_at):
    folder, recipe = grouped(tmp_path / "whole")
    watcher = Watcher()
    summary = execute(folder, recipe, embedded_mnist(), CPU, watcher)
    learned = [call[1] for call in watcher.calls if call[0] == "learned"]
    assert learned == [1, 2, 3, 4, 5]
    assert watcher.calls.index(("learned", 1)) == 1 + 2 * 10, "two tasks are trained before the first is done"
    stopped, recipe = grouped(tmp_path / "stopped")
    with pytest.raises(Stop):
        execute(stopped, recipe, embedded_mnist(), CPU, Watcher(stop_at))
    assert results(execute(stopped, recipe, embedded_mnist(), CPU, Watcher())) == results(summary)
    assert torch.equal(open_run(stopped.path).bank.rows, open_run(folder.path).bank.rows)


def test_a_run_that_is_done_does_nothing_more(whole):
    folder, summary, _ = whole
    watcher = Watcher()
    assert run(folder, watcher) == summary
    assert watcher.calls == [("begun", 3)]


def test_an_opened_run_answers_as_it_was_trained(whole):
    folder, summary, _ = whole
    opened = open_run(folder.path)
    assert opened.recipe == RECIPE
    assert opened.summary == summary
    assert len(opened.bank) == len(opened.stream) == 3
    assert opened.checkpoints[-1].accuracy == summary["checkpoints"][-1]["accuracy"]
    weights = opened.bank.weights(2)
    right = total = 0
    for batch in opened.stream[2].test.in_order(128):
        right += int((opened.network(batch.images, weights).argmax(dim=1) == batch.labels).sum())
        total += len(batch)
    assert isinstance(opened.bank, MaskBank)
    (given,) = evaluate(folder, Scenario.GG)
    assert right / total == given.accuracy


def evaluate(folder, scenario):
    opened = open_run(folder.path)
    return [evaluate_task(opened.method, opened.stream[2], scenario, batch_size=128)]


def test_runs_are_found_by_name(whole, tmp_path):
    folder, _, _ = whole
    (folder.path.parent / "no-run").mkdir()
    assert [found.path.name for found in find_runs(folder.path.parent)] == ["whole"]
    for name in ("demo-10", "demo-9", "demo-1", "cifar-2"):
        begin(tmp_path / name)
    assert [found.path.name for found in find_runs(tmp_path)] == ["cifar-2", "demo-1", "demo-9", "demo-10"]
    assert list(find_runs(tmp_path / "nowhere")) == []
    begin(tmp_path / os.fsdecode(b"demo-\xff"))
    assert len(list(find_runs(tmp_path))) == 4, "what has a name that is no text can be shown nowhere"


def test_no_seconds_are_lost_between_progress_and_bank(tmp_path, whole):
    folder = begin(tmp_path / "run")
    with pytest.raises(Stop):
        run(folder, Watcher(stop_at=12))  # as the first task is reported: both files are written
    assert len(folder.progress().train_seconds) == folder.tasks_saved == 1
    shutil.rmtree(folder.bank)  # as if the crash had come between the two
    summary = run(folder)
    assert sorted(folder.progress().train_seconds) == [0, 1, 2]
    assert summary["seconds"]["train"] == sum(folder.progress().train_seconds.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:0"}, "--device cpu: the run was started with cuda:0"),
        ({"data_digest": "0" * 64}, "data MNIST-5k .*: the run was started with MNIST-5k 000000000000"),
        ({"tasks_at_once": 4}, "--tasks-at-once 1: the run was started with 4"),
        ({"arithmetic": "numba 0.1"}, "arithmetic .*: the run was started with numba 0.1 and goes on only with that"),
        (
            {"test_order": "of the data"},
            "test order of each task's own: the run was started with of the data and goes on",
        ),
        ({"versions": {"torch": "1.0"}}, "the run was started with 1.0 and goes on only with that"),
    ],
)
def test_a_resumed_run_must_find_what_it_started_with(changes, message):
    current = describe_environment(CPU, embedded_mnist(), None)
    with pytest.raises(UsageError, match=message):
        adopt_environment(dataclasses.replace(current, **changes), current)


def test_a_resumed_run_takes_over_the_number_of_threads():
    current = describe_environment(CPU, embedded_mnist(), None)
    before = torch.get_num_threads()
    try:
        adopt_environment(dataclasses.replace(current, threads=before + 1), current)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("capability", "precision", "told"), [("AVX2", "bfloat16", 1), ("AVX512", "bfloat16", 0), ("AVX2", "float32", 0)]
)
def test_a_precision_that_the_processor_lacks_is_told_before_it_trains(
    tmp_path, monkeypatch, capability, precision, told
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    training = dataclasses.replace(RECIPE.method.training, batches=1, precision=precision)
    recipe = dataclasses.replace(RECIPE, tasks=1, method=dataclasses.replace(RECIPE.method, training=training))
    folder = RunFolder(tmp_path)
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    trained, looked_at = Watcher(), Watcher()
    execute(folder, recipe, embedded_mnist(), CPU, trained)
    notes = [call[1] for call in trained.calls if call[0] == "noted"]
    assert len(notes) == told
    assert all("training in bfloat16: this processor" in note for note in notes)
    assert trained.calls.index(("begun", 0)) == told
    execute(folder, recipe, embedded_mnist(), CPU, looked_at)
    assert looked_at.calls == [("begun", 1)], "nothing is left to train"
