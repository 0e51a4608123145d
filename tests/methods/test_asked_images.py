"""Which image of a batch is asked, against a loop over batches, and against what the run itself counted."""

from dataclasses import replace

import pytest
from supsup_core import entropy, one_shot
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import evaluation_batches
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.reproduction import asked_images
from supsup_methods.reproduction.asked_images import accuracy_by_image
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings

SHORT = Recipe(
    "short",
    4,
    backbone=FullyConnected(hidden=(30,), outputs=12),
    method=SupSupSettings(training=MaskTraining(batches=40, batch_size=20, learning_rate=1e-3)),
    evaluation=Evaluation(scenario="GNu", batch_size=100),
)


def slow_accuracy(run, place):
    right = total = 0
    for index in range(run.method.tasks_learned):
        for batch in evaluation_batches(run.stream[index], 100):
            total += len(batch)
            if one_shot(entropy, run.network, run.bank, batch.images[place : place + 1]).task == index:
                right += int((run.method.logits(batch.images, index).argmax(dim=1) == batch.labels).sum())
    return right / total


def test_each_place_in_a_batch_is_scored_as_a_run_would(bench):
    bench, *_ = bench
    (folder,) = replace(bench, seeds=1).each_seed(SHORT)
    run = open_run(folder.path)
    found = accuracy_by_image(run)
    assert len(found) == 16
    assert found[0] == pytest.approx(folder.summary()["checkpoints"][-1]["accuracy"], abs=1e-9)
    assert found[5] == pytest.approx(slow_accuracy(run, 5), abs=1e-9)
    assert len(set(found)) > 1, "or this shows nothing"


def test_both_widths_are_told(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setattr(
        asked_images, "RECIPES", {name: replace(SHORT, name=name) for name in asked_images._RECIPES.values()}
    )
    found = asked_images.asked_images(bench)
    assert [name for name, _ in carried] == ["table8-supsup-s25-h"] * 2 + ["table3-supsup-h"] * 2
    first, mean, worst, best = (row.ours for row in found.rows[:4])
    lines = [line for line in found.tables["accuracy"] if (line["outputs"], line["seed"]) == (25, 1)]
    shares = [100 * line["accuracy"] for line in lines]
    assert [line["image"] for line in lines] == list(range(1, 17))
    assert (first[1], worst[1], best[1]) == pytest.approx((shares[0], min(shares), max(shares)))
    assert mean[1] == pytest.approx(sum(shares) / 16)
    assert "asked by the worst of 16" in found.rows[2].what


def test_a_run_without_masks_is_refused(bench):
    bench, *_ = bench
    recipe = replace(SHORT, name="psp", tasks=1, method=PspSettings(), evaluation=Evaluation(scenario="GG"))
    (folder,) = replace(bench, seeds=1).each_seed(recipe)
    with pytest.raises(UsageError, match="psp"):
        accuracy_by_image(open_run(folder.path))
