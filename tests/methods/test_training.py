"""A run begun from Python: refused, carried out, stopped and resumed as by the command."""

import dataclasses
import json
import os
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from PIL import Image
from supsup_datasets import DataUnavailable
from supsup_methods import training
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe, SplitImageFolder
from supsup_methods.mask_training import MaskTraining
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training import train

from .test_running import CPU, RECIPE, Stop, Watcher, results


def test_it_leaves_what_the_command_leaves(tmp_path):
    run = train(RECIPE, tmp_path / "python", device="cpu")
    command = [
        sys.executable,
        "-P",
        "-m",
        "supsup_methods.commands.train",
        "--tasks",
        "3",
        "--method.training.batches",
        "10",
    ]
    options = ["--evaluation.checkpoints", "1", "2", "--device", "cpu", "--out", "command", "--no-tracking"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True, env={**os.environ, **threads})
    other = open_run(tmp_path / "command")
    assert other.recipe == run.recipe == RECIPE
    assert torch.equal(run.bank.rows, other.bank.rows)
    assert results(run.summary) == results(other.summary)
    assert [each.tasks_learned for each in run.checkpoints] == [1, 2, 3]


def test_without_a_place_it_is_a_new_folder_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [train(RECIPE.shortened(1), device="cpu").path for _ in range(2)]
    assert [str(path) for path in paths] == ["runs/demo-1", "runs/demo-2"]


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    whole = train(RECIPE, tmp_path / "whole", device="cpu")
    with pytest.raises(Stop):
        train(RECIPE, tmp_path / "run", device="cpu", observer=Watcher(stop_at=30))
    watcher = Watcher()
    run = train(RECIPE, tmp_path / "run", resume=True, observer=watcher)
    assert watcher.calls[0] == ("begun", 1)
    assert torch.equal(run.bank.rows, whole.bank.rows)
    assert results(run.summary) == results(whole.summary)
    again = Watcher()
    train(RECIPE, tmp_path / "run", resume=True, observer=again)
    assert again.calls == [("begun", 3)], "what is done is not done again"


def test_a_run_whose_files_fill_half_of_the_disk_goes_on(tmp_path, monkeypatch):
    with pytest.raises(Stop):
        train(RECIPE, tmp_path / "run", device="cpu", observer=Watcher(stop_at=30))
    (tmp_path / "run" / "notes.bin").write_bytes(bytes(10**6))  # what is no part of what was learned saves no space
    held = sum(file.stat().st_size for file in (tmp_path / "run" / "bank").iterdir())
    needed = 3 * open_run(tmp_path / "run").bank.row_bytes
    assert held < needed
    disk = namedtuple("Disk", "total free")
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: disk(10**9, needed - held - 1))
    with pytest.raises(
        UsageError, match=r"^--resume: what is left to learn takes .*kB and .* has .*kB free; free some"
    ):
        train(RECIPE, tmp_path / "run", resume=True)
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: disk(10**9, needed - held))
    assert train(RECIPE, tmp_path / "run", resume=True).summary["tasks"] == 3
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: disk(10**9, 0))
    train(RECIPE, tmp_path / "run", resume=True)


def pets(root, tasks):
    """Write a folder of images, of two classes for each task, and return a recipe that learns them."""
    for part, images in (("train", 4), ("val", 2)):
        for number in range(2 * tasks):
            folder = root / "pets" / part / ("ant", "bee", "cat", "dog")[number]
            folder.mkdir(parents=True)
            for image in range(images):
                Image.new("RGB", (8, 8), (60 * image, 9, 80 * number)).save(folder / f"{image}.png")
    return Recipe(
        "pets",
        tasks,
        stream=SplitImageFolder(folder="pets", classes_per_task=2, side=8),
        backbone=FullyConnected(hidden=(6,), outputs=2),
        method=SupSupSettings(training=MaskTraining(batches=3, batch_size=4)),
        evaluation=Evaluation(scenario="GG"),
    )


def test_the_data_may_have_moved(tmp_path):
    recipe = pets(tmp_path / "here", tasks=1)
    run = train(recipe, tmp_path / "run", device="cpu", data_root=tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(
        DataUnavailable, match=r"here.*; where the data has moved, pass its folder as data_root \(--data-root\)"
    ):
        open_run(run.path)
    with pytest.raises(DataUnavailable, match=r"nowhere(?!.*has moved)"):
        open_run(run.path, data_root=tmp_path / "nowhere")
    moved = open_run(run.path, data_root=tmp_path / "there")
    assert moved.dataset.digest == run.dataset.digest
    again = train(recipe, run.path, device="cpu", data_root=tmp_path / "there", resume=True)
    assert again.dataset.digest == open_run(run.path).dataset.digest == run.dataset.digest  # and from now on by itself
    (next((tmp_path / "there/pets/val/ant").iterdir())).unlink()
    with pytest.raises(UsageError, match=r"its data, pets of .*there, is no longer what it learned from"):
        open_run(run.path, data_root=tmp_path / "there")


def test_processes_that_go_on_find_the_data_where_it_is_now(tmp_path):
    recipe = pets(tmp_path / "here", tasks=2)
    whole = train(recipe, tmp_path / "whole", device="cpu", data_root=tmp_path / "here")

    class AfterOneTask(Watcher):
        def task_learned(self, tasks_learned, seconds):
            raise Stop

    with pytest.raises(Stop):
        train(recipe, tmp_path / "run", device="cpu,cpu", data_root=tmp_path / "here", observer=AfterOneTask())
    (tmp_path / "here").rename(tmp_path / "there")
    moved = train(recipe, tmp_path / "run", data_root=tmp_path / "there", resume=True)
    assert torch.equal(moved.bank.rows, whole.bank.rows)


def test_data_that_ships_has_no_root(tmp_path):
    run = train(RECIPE, tmp_path / "run", device="cpu")
    with pytest.raises(
        UsageError, match=r"^--data-root .*learned from MNIST-5k, which ships with a dependency; leave it out"
    ):
        open_run(run.path, data_root=tmp_path)


def test_what_should_be_known_is_warned_of(tmp_path):
    path = train(RECIPE, tmp_path / "run", device="cpu").path
    (tmp_path / "run" / "progress.json").write_text("{")
    with pytest.warns(UserWarning, match="progress"):
        train(RECIPE, path, resume=True)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"tasks": 0}, {}, "--tasks 0: "),
        ({"seed": -1}, {}, "--seed -1: "),
        ({"tasks": 2}, {}, "--evaluation.checkpoints 10: the run ends after --tasks 2; leave it out, or learn more"),
        ({}, {"device": "tpu"}, "--device tpu: not a device"),
        ({}, {"tasks_at_once": 0}, "--tasks-at-once 0: a whole number of tasks is trained; choose 1 or more"),
        ({}, {"tasks_at_once": 1.5}, "--tasks-at-once 1.5: a whole number of tasks is trained; choose 1 or more"),
        ({}, {"snapshot_seconds": "x"}, "--snapshot-seconds x: it should be 0 or more; choose another value"),
        (
            {},
            {"snapshot_seconds": float("nan")},
            "--snapshot-seconds nan: it should be 0 or more; choose another value",
        ),
        ({}, {"resume": True}, "run: no run here (recipe.json is missing); check the path"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, changes, options, message):
    recipe = dataclasses.replace(RECIPES["table3-supsup-h"], stream=RECIPE.stream, **changes)
    with pytest.raises(UsageError) as refused:
        train(recipe, tmp_path / "run", **options)
    assert message in str(refused.value)
    assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="it is a file; choose another folder"):
        train(RECIPE, tmp_path / "file")
    run = train(RECIPE.shortened(1), tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="it holds another run; go on with it by --resume"):
        train(RECIPE, run.path)
    with pytest.raises(UsageError) as refused:
        train(RECIPE, run.path, resume=True)
    assert str(refused.value) == f"--resume: the run in {run.path} was started with --tasks 1, not 3; start a new run"
    with RunFolder(run.path).locked(), pytest.raises(UsageError, match="another process"):
        train(RECIPE.shortened(1), run.path, resume=True)
    with pytest.raises(UsageError, match="--resume: which run to go on with is missing"):
        train(RECIPE, resume=True)


def test_a_shorter_recipe_leaves_out_the_checkpoints_that_it_does_not_come_to():
    recipe = RECIPES["table3-supsup-h"]
    assert recipe.evaluation.checkpoints == (10, 50, 100, 150, 200)
    short = recipe.shortened(100)
    assert (short.tasks, short.evaluation.checkpoints) == (100, (10, 50))
    assert dataclasses.replace(short, tasks=recipe.tasks, evaluation=recipe.evaluation) == recipe


def test_it_takes_no_threads_from_its_caller(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        recorded = [
            train(RECIPE.shortened(2), tmp_path / str(run), device="cpu,cpu").path / "environment.json"
            for run in range(2)
        ]
        assert torch.get_num_threads() == 4
        assert [json.loads(path.read_bytes())["threads"] for path in recorded] == [2, 2]
        torch.set_num_threads(1)
        train(RECIPE.shortened(2), tmp_path / "0", resume=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_what_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"^recipe='demo': it is no Recipe; pass one, RECIPES\['demo'\] for example$"):
        train("demo", tmp_path / "run")
    mine = dataclasses.make_dataclass("Mine", [("kind", str, "supsup"), ("training", object, None)], frozen=True)
    with pytest.raises(
        UsageError, match=r"^method Mine: not one of SupSupSettings, .* name its MethodKind as an entry point"
    ):
        train(dataclasses.replace(RECIPE, method=mine()), tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_a_run_is_shown_in_a_line(tmp_path):
    run = train(RECIPE.shortened(1), tmp_path / "run", device=CPU)
    assert len(repr(run)) < 1500
