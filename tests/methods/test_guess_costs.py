from dataclasses import replace

import pytest
import torch
from supsup_core import InvalidArgument
from supsup_datasets import embedded_mnist
from supsup_methods import guess_costs
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training_length import TaskTraining

from .test_running import CPU, Watcher

TINY = Recipe("tiny", 5, backbone=FullyConnected(hidden=(20,), outputs=15), evaluation=Evaluation(scenario="GG"))
METHODS = {
    "supsup": SupSupSettings(training=MaskTraining(batches=2)),
    "batch-ensemble": BatchESettings(training=TaskTraining(batches=2)),
}


def opened(path, method):
    recipe = replace(TINY, method=method)
    path.mkdir()
    folder = RunFolder(path)
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    return open_run(path)


@pytest.mark.parametrize("name", METHODS)
def test_each_search_is_timed_over_the_first_tasks_alone(tmp_path, monkeypatch, name):
    run = opened(tmp_path / "run", METHODS[name])
    asked = []

    def noted(search):
        return lambda objective, net, store, images: asked.append(
            (search, [store.weights(i) for i in range(len(store))])
        )

    monkeypatch.setattr(guess_costs, "_SEARCHES", {search: noted(search) for search in ("a", "b")})
    monkeypatch.setattr(guess_costs, "median_seconds", lambda guess: guess() or 2.0)
    found = list(guess_costs.guess_costs(run.method, torch.zeros(1, 1, 28, 28)))
    assert [(cost.search, cost.tasks, cost.seconds) for cost in found] == [
        (search, tasks, 2.0) for tasks in (1, 2, 4, 5) for search in ("a", "b")
    ]
    for (_, weights), tasks in zip(asked, (1, 1, 2, 2, 4, 4, 5, 5), strict=True):
        assert len(weights) == tasks
        for task, entries in enumerate(weights):
            expected = run.method.bank.weights(task)
            assert all(torch.equal(entries[key], expected[key]) for key in expected)


def test_real_guesses_take_some_time(tmp_path):
    run = opened(tmp_path / "run", METHODS["supsup"])
    found = list(guess_costs.guess_costs(run.method, next(iter(run.stream[0].test.in_order(1))).images))
    assert all(0 < cost.seconds < 10 for cost in found)


def test_a_method_without_contexts_is_refused(tmp_path):
    run = opened(tmp_path / "run", replace(PspSettings(), training=replace(PspSettings().training, batches=2)))
    with pytest.raises(InvalidArgument, match="it keeps no contexts to search"):
        list(guess_costs.guess_costs(run.method, torch.zeros(1, 784)))


@pytest.mark.parametrize(
    ("taken", "median", "calls"),
    [((0.9, 0.2, 0.4, 0.3), 0.3, 4), ((5.0,), 5.0, 1), ((0.5, *[0.001] * 200), 0.001, 101)],
)
def test_the_median_leaves_out_the_first_time_but_of_what_takes_long(monkeypatch, taken, median, calls):
    clock, now = iter(taken), [0.0]
    monkeypatch.setattr(guess_costs.time, "perf_counter", lambda: now[0])
    called = []

    def run():
        called.append(1)
        now[0] += next(clock)

    assert guess_costs.median_seconds(run) == pytest.approx(median)
    assert abs(len(called) - calls) <= 1, "sums of seconds may round either way"


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_numbers_double_up_to_the_most(most, numbers):
    assert guess_costs.doubling(most) == numbers
