"""One task's mask trained again: the same bits, and what was seen on the way is what was there."""

import dataclasses
import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank
from supsup_core.packed_bits import unpack
from supsup_datasets import embedded_mnist
from supsup_datasets.seeds import generator
from supsup_methods import mask_training
from supsup_methods.backbones import fully_connected, normalised_fully_connected
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation
from supsup_methods.mask_rules import EdgePopupMasks, fresh_scores
from supsup_methods.mask_training import MaskTraining, train_threshold_mask
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import Environment, RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import Run, open_run
from supsup_methods.supsup import SupSup, SupSupSettings
from supsup_methods.training_length import Schedule
from supsup_methods.watched_records import BINS, read_watched, watched_path, watched_tasks, write_watched
from supsup_methods.watched_training import ScoreHistogram, moments, watch_task
from torch import nn
from torch.nn.functional import cross_entropy

from .problems import dataset, stream
from .test_running import CPU, RECIPE, Watcher, begin

TRAINING = MaskTraining(batches=30, batch_size=20, learning_rate=0.01)
TRANSFER = SupSupSettings(
    training=dataclasses.replace(
        TRAINING, learning_rate=0.02, optimizer="adam", schedule=Schedule("cosine", 0.1), first_epochs=3
    ),
    masks=EdgePopupMasks(budget_factor=2.0, transfer=True),
    statistics="float16",
)


def with_dropout(width: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(width, hidden[0]), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, outputs))


CASES = {
    "threshold": (fully_connected, SupSupSettings(training=TRAINING)),
    "threshold over batch norm": (normalised_fully_connected, SupSupSettings(training=TRAINING)),
    "transfer": (fully_connected, TRANSFER),
    "transfer over batch norm": (normalised_fully_connected, TRANSFER),
    "dropout": (with_dropout, SupSupSettings(training=TRAINING)),
    "bfloat16": (fully_connected, SupSupSettings(training=dataclasses.replace(TRAINING, precision="bfloat16"))),
}


def learned(path, backbone, settings, tasks=3) -> tuple[Run, Environment]:
    """Return a run of the small problem, in memory alone."""
    net = FrozenNetwork(backbone(20, (64, 32), 12), seed=0)
    dtype = torch.float16 if settings.statistics == "float16" else torch.float32
    method = SupSup(net, MaskBank(net, dtype), settings, num_labels=3, seed=0)
    for task in range(tasks):
        method.learn([stream(tasks)[task]], lambda: None)
    recipe = dataclasses.replace(RECIPE, tasks=tasks, method=settings)
    environment = describe_environment(CPU, dataset(), None)
    return Run(path, recipe, method, stream(tasks), dataset(), (), None), environment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three tasks of ten steps on real digits."""
    folder = begin(tmp_path_factory.mktemp("runs") / "demo-1")
    execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())
    return folder


@pytest.fixture
def small(tmp_path):
    return learned(tmp_path, *CASES["threshold"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (0, 1)),
        (20, tuple(range(21))),
        (100, (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)),
        (1000, (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)),
        (4000, (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000)),
    ],
)
def test_moments_are_dense_at_first_and_end_with_the_last_step(steps, expected):
    assert moments(steps) == expected


def test_there_are_about_twenty_moments_whatever_the_length():
    for steps in (*range(1, 3000, 7), 10**4, 10**5, 10**6, 10**7):
        found = moments(steps)
        assert found[0] == 0
        assert found[-1] == steps
        assert list(found) == sorted(set(found))
        assert min(steps + 1, 10) <= len(found) <= 23
    with pytest.raises(UsageError, match="steps 0: a training has at least one"):
        moments(0)


@pytest.mark.parametrize("growth", [1.0, 1.7, 40.0, 1e4])
def test_bins_are_shared_by_all_moments_and_lose_no_score(growth):
    drawn = torch.Generator().manual_seed(0)
    ways = [torch.randn(5000, generator=drawn) * growth**power for power in range(4)]
    histogram = ScoreHistogram()
    for scores in ways:
        histogram.add(scores)
    limit, counts = histogram.binned()
    most = max(float(scores.abs().max()) for scores in ways)
    assert most <= limit <= 1.2 * most, "as narrow as they can be: within a sixteenth, and a bin"
    edges = np.linspace(-limit, limit, BINS + 1)
    for scores, found in zip(ways, counts, strict=True):
        expected, _ = np.histogram(scores.double().numpy(), edges)
        # The limit is a float32 times fractions of powers of two, so that only scores on an edge could be told otherwise.
        assert list(found) == expected.tolist()


def test_zero_is_right_of_the_middle_however_near_the_others_are():
    histogram = ScoreHistogram()
    histogram.add(torch.tensor([0.0, -0.0, 1e-30, -1e-30, -1.0, 1.0, 0.5]))
    limit, counts = histogram.binned()
    assert sum(counts[0][: BINS // 2]) == 2
    assert sum(counts[0][BINS // 2 :]) == 5
    assert limit == 1.0


def test_scores_that_are_all_zero_have_bins_too():
    histogram = ScoreHistogram()
    histogram.add(torch.zeros(9))
    limit, counts = histogram.binned()
    assert limit > 0
    assert counts[0][BINS // 2] == sum(counts[0]) == 9


def test_a_run_ends_with_the_same_bits_again_and_stays_as_it_is(trained):
    before = {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")}
    for task in range(3):
        told = []
        watched = watch_task(open_run(trained.path), trained.environment(), task, told.append)
        assert watched.as_run
        assert (watched.bits, watched.bits_unlike_run, watched.statistics_as_run) == (275_200, 0, True)
        assert watched.unlike_run == ()
        assert (watched.task, watched.moments) == (task, tuple(range(11)))
        assert [moment.step for moment in told] == list(range(11))
        assert {moment.steps for moment in told} == {10}
        assert watched.seconds > 0
    assert {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")} == before


def test_what_is_seen_is_what_is_there_after_so_many_steps(trained):
    """Each moment beside a training of that many steps of its own."""
    run, task = open_run(trained.path), 1
    net, training = run.network, RECIPE.method.training
    told = []
    watched = watch_task(run, trained.environment(), task, told.append)
    order = generator(RECIPE.seed, "training order", task)
    shown = list(run.stream[task].train.shuffled(training.batch_size, 10, order))
    final = net.flatten(run.bank.masks(task))
    sizes, before = [entry.size for entry in net.maskable], None
    for step in range(11):
        scores = fresh_scores(net, RECIPE.seed, task)
        masks = train_threshold_mask(net, scores, shown[:step], training.learning_rate)
        bits = net.flatten(masks)
        batch = shown[min(step, 9)]
        weights = {name: mask * net.frozen[name] for name, mask in masks.items()}
        # By the same operations, but for the memory that the weights lie in.
        loss = float(cross_entropy(net(batch.images, weights), batch.labels))
        assert watched.loss[step] == pytest.approx(loss, rel=1e-5)
        assert told[step].density == float(bits.double().mean())
        parts = zip(bits.split(sizes), final.split(sizes), scores.split(sizes), watched.layers, strict=True)
        for number, (own, end, values, layer) in enumerate(parts):
            assert layer.density[step] == int(own.sum()) / len(own)
            assert layer.unlike_final[step] == int((own != end).sum()) / len(own)
            turned = 0 if before is None else int((own != before.split(sizes)[number]).sum())
            assert layer.flipped[step] == turned / len(own)
            edges = np.linspace(-layer.score_limit, layer.score_limit, BINS + 1)
            assert list(layer.scores[step]) == np.histogram(values.double().numpy(), edges)[0].tolist()
            assert sum(layer.scores[step][BINS // 2 :]) == int(own.sum()), "scores from 0 up are the ones"
        assert told[step].flipped == (0 if before is None else int((bits != before).sum()) / len(bits))
        before = bits
    assert [layer.layer for layer in watched.layers] == [entry.name for entry in net.maskable]
    assert [layer.weights for layer in watched.layers] == sizes


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_the_very_training_of_the_run_whatever_its_settings(name, tmp_path, monkeypatch):
    run, environment = learned(tmp_path, *CASES[name])
    rows, buffers = run.bank.rows.clone(), run.bank.buffers.clone()
    losses, task_gradients = [], mask_training.task_gradients

    class Recorded:
        """Gradients that tell the loss at the weights that they are asked for."""

        def __init__(self, net, precision, buffers):
            self.gradients, self.problem = task_gradients(net, precision, buffers), (net, precision)
            self.buffers = buffers

        def write(self, weights, batch, out):
            copies = {name: value.clone() for name, value in self.buffers.items()}
            with torch.random.fork_rng():
                losses.append(float(mask_training.task_loss(*self.problem, copies)(weights, batch)))
            self.gradients.write(weights, batch, out)

    monkeypatch.setattr(mask_training, "task_gradients", Recorded)
    for task in range(3):
        losses.clear()
        watched = watch_task(run, environment, task)
        assert watched.as_run, f"task {task}"
        seen = dict(zip(watched.moments, watched.loss, strict=True))
        assert len(losses) == watched.moments[-1] == (18 if name.startswith("transfer") and task == 0 else 30)
        assert [seen[step] for step in watched.moments[:-1]] == [losses[step] for step in watched.moments[:-1]], (
            "to the last bit: the same mask, batch, statistics and random numbers"
        )
    assert torch.equal(run.bank.rows, rows)
    assert torch.equal(run.bank.buffers, buffers)


def test_edge_popup_keeps_its_budget_at_every_moment(tmp_path):
    run, environment = learned(tmp_path, *CASES["transfer"])
    for layer in watch_task(run, environment, 2).layers:
        assert len(set(layer.density)) == 1
        assert 0 < layer.density[0] <= 0.5


def test_transfer_starts_from_the_mean_of_the_masks_before_and_no_other(tmp_path):
    """Of task 2: where neither mask 0 nor mask 1 has a weight, its score is 0, and the bin right of 0 holds those."""
    run, environment = learned(tmp_path, *CASES["transfer"])
    first = watch_task(run, environment, 2)
    before = run.bank.masks(0), run.bank.masks(1)
    for layer in first.layers:
        neither = ~(before[0][layer.layer] | before[1][layer.layer])
        assert layer.scores[0][BINS // 2] >= int(neither.sum()) > 0
        assert sum(layer.scores[0][: BINS // 2]) == 0, "means of masks are not negative"


def test_a_batch_that_is_passed_over_has_no_loss(tmp_path):
    training = MaskTraining(batch_size=119, epochs=2, learning_rate=0.01)  # of 120 images
    run, environment = learned(tmp_path, normalised_fully_connected, SupSupSettings(training=training), tasks=1)
    watched = watch_task(run, environment, 0)
    assert watched.as_run
    assert [loss is None for loss in watched.loss] == [False, True, False, True, True]
    assert watched.layers[0].flipped[2] == 0.0 < watched.layers[0].flipped[3]


def test_a_bit_that_is_another_one_is_counted(small):
    run, environment = small
    changed = run.bank.masks(1)
    name = next(iter(changed))
    changed[name][0, :3] ^= True
    run.bank.replace(1, changed)
    watched = watch_task(run, environment, 1)
    assert watched.bits_unlike_run == 3
    assert not watched.as_run
    assert watched.layers[0].unlike_final[-1] == 0.0, "the mask that training ended with is the final one"


def test_statistics_that_are_others_are_noticed(tmp_path):
    run, environment = learned(tmp_path, *CASES["threshold over batch norm"])
    statistics = {name: value + 1 for name, value in run.network.fresh_buffers().items()}
    run.bank.replace(1, run.bank.masks(1), statistics)
    watched = watch_task(run, environment, 1)
    assert (watched.bits_unlike_run, watched.statistics_as_run, watched.as_run) == (0, False, False)


def test_what_was_different_from_the_run_is_told(small):
    run, environment = small
    other = dataclasses.replace(
        environment, device="cuda:0,cuda:1", tasks_at_once=4, machine="abacus", versions={"torch": "1.0"}
    )
    watched = watch_task(run, other, 0)
    assert watched.unlike_run == (
        "device: cuda then, cpu now",
        f"machine: abacus then, {environment.machine} now",
        "tasks at once: 4 then, 1 now",
        f"torch: 1.0 then, {environment.versions['torch']} now",
    )


def test_a_run_of_tasks_side_by_side_is_almost_the_same_and_says_why(tmp_path):
    recipe = dataclasses.replace(RECIPE, tasks=2, evaluation=Evaluation())
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None, tasks_at_once=2))
    execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    watched = watch_task(open_run(folder.path), folder.environment(), 1)
    assert watched.unlike_run == ("tasks at once: 2 then, 1 now",)
    # Last bits of a gradient differ, and with them a few scores close to 0.
    assert watched.bits_unlike_run / watched.bits < 0.01


def test_the_threads_of_the_run_are_taken_over_meanwhile(small):
    run, environment = small
    before, seen = torch.get_num_threads(), set()
    watch_task(
        run,
        dataclasses.replace(environment, threads=before + 1),
        0,
        lambda moment: seen.add(torch.get_num_threads()),
    )
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_watching_leaves_the_global_random_numbers_alone(tmp_path):
    run, environment = learned(tmp_path, *CASES["dropout"])
    state = torch.get_rng_state()
    watch_task(run, environment, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("task", [-1, 3, 99])
def test_a_task_that_was_not_learned_is_refused(small, task):
    run, environment = small
    with pytest.raises(UsageError, match=f"--watch-task {task}: .* has learned tasks 0 to 2; choose one of them"):
        watch_task(run, environment, task)


def test_other_methods_and_other_data_are_refused(small):
    run, environment = small
    other = dataclasses.replace(run, method=SimpleNamespace(tasks_learned=3))
    with pytest.raises(UsageError, match="trains no mask for each task that could be trained again by itself"):
        watch_task(other, environment, 0)
    with pytest.raises(UsageError, match="its data blobs has changed since"):
        watch_task(run, dataclasses.replace(environment, data_digest="0" * 64), 0)


def test_several_tasks_in_a_step_cannot_be_watched(small):
    run, _ = small
    tasks = [run.stream[0], run.stream[1]]
    with pytest.raises(InvalidArgument, match="watch: 2 tasks in every step; watch one task by itself"):
        run.method.learn_apart(tasks, lambda: None, lambda mask, step, batch: None)


def test_a_watch_sees_every_step_and_the_end(small):
    run, _ = small
    calls = []
    method = run.method.first(1)
    (own,) = method.learn_apart(
        [run.stream[1]],
        lambda: calls.append("stepped"),
        lambda mask, step, batch: calls.append((step, len(batch), mask.task, mask.steps)),
    )
    assert calls[::2] == [(step, 20, 1, 30) for step in range(31)]
    assert calls[1::2] == ["stepped"] * 30
    assert torch.equal(unpack(own["packed mask"], run.network.num_bits), run.network.flatten(run.bank.masks(1)))


def test_scores_that_diverge_are_told(tmp_path):
    run, _ = learned(tmp_path, *CASES["threshold"], tasks=1)

    def ruin(mask, step, batch):
        if step == 2:
            mask.scores[0] = math.nan

    with pytest.raises(InvalidArgument, match="the scores diverged"):
        run.method.first(0).learn_apart([run.stream[0]], lambda: None, ruin)


def test_a_record_comes_back_as_it_was_written(small, tmp_path):
    run, environment = small
    watched = watch_task(run, environment, 2)
    assert read_watched(tmp_path, 2) is None
    path = write_watched(tmp_path, watched)
    assert path == watched_path(tmp_path, 2) == tmp_path / "watched-000002.json"
    assert read_watched(tmp_path, 2) == watched
    (tmp_path / "watched-x.json").write_text("")
    write_watched(tmp_path, dataclasses.replace(watched, task=0))
    assert watched_tasks(tmp_path) == [0, 2]


def test_a_record_is_of_one_run_and_of_none_that_takes_its_place(trained, tmp_path):
    run, other = RunFolder(tmp_path / "demo-1"), dataclasses.replace(RECIPE, seed=1)
    shutil.copytree(trained.path, run.path)
    watched = watch_task(open_run(run.path), run.environment(), 0)
    assert watched.run == run.digest == trained.digest, "a copy is the same run"
    path = write_watched(run.path, watched)
    assert read_watched(run.path, 0) == watched
    without = {name: value for name, value in json.loads(path.read_text()).items() if name != "run"}
    path.write_text(json.dumps(without))
    assert read_watched(run.path, 0) is not None, "older records do not say"
    write_watched(run.path, watched)
    run.begin(other, run.environment())
    assert run.digest not in ("", watched.run)
    assert read_watched(run.path, 0) is None
    for gone in (False, True):
        if gone:
            shutil.rmtree(run.path)
        with pytest.raises(
            UsageError, match="demo-1: the run that was watched is gone, and perhaps another in its place"
        ):
            write_watched(run.path, watched)
    assert not run.path.exists()
    assert run.digest == ""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:100], "not JSON"),
        (lambda text: text.replace('"bits"', '"bytes"'), "bits"),
        (lambda text: "[]", "watched-000002.json"),
        (lambda text: json.dumps({**json.loads(text), "moments": [0, 1]}), "not as many values as moments"),
        (lambda text: json.dumps({**json.loads(text), "layers": []}), "not as many values as moments"),
    ],
)
def test_a_damaged_record_is_told_in_one_line_with_the_way_out(small, tmp_path, damage, message):
    run, environment = small
    path = write_watched(tmp_path, watch_task(run, environment, 2))
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError, match=message) as told:
        read_watched(tmp_path, 2)
    assert str(told.value).endswith(f"; watch it again: supsup-eval {tmp_path} --watch-task 2")
    assert "\n" not in str(told.value)
