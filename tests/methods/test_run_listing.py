"""Lines of runs, against what the strict readers say and against numbers put down by hand."""

import dataclasses
import json
import os
import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from supsup_datasets import embedded_mnist
from supsup_methods import recipe_files
from supsup_methods.experiment import Evaluation
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.mask_training import MaskTraining
from supsup_methods.run_folder import LOCK, RunFolder
from supsup_methods.run_listing import RunListing
from supsup_methods.running import execute
from supsup_methods.supsup import SupSupSettings

from .test_running import CPU, RECIPE, Stop, Watcher, begin

BEGUN = 1_790_000_000  # seconds since 1970, in September 2026
NOTE = {"pid": 1, "host": "elsewhere"}
_NOBODY = 65534


def write_run(path, *, recipe=RECIPE, seconds=(), checkpoints=(), done=False, learned=None, ended=None, device="cpu"):
    """Write a run's files, and nothing that takes time.

    Args:
        seconds: of training, of each task.
        checkpoints: each (tasks learned, images that are right of 1000 in each task, guesses that are right of 8).
        done: whether to write results.
        learned: how many tasks the bank holds; all of `seconds` without it.
        ended: what the lock says of the last process; None for no lock.
    """
    path.mkdir(parents=True)
    (path / "recipe.json").write_text(recipe_files.to_json(recipe))
    environment = {"device": device, "threads": 1, "data_name": "MNIST-5k", "data_digest": "0" * 64, "data_root": None}
    (path / "environment.json").write_text(json.dumps({**environment, "versions": {"torch": "2.11.0"}}))
    tested = [
        {
            "tasks_learned": tasks,
            "scores": [
                {
                    "task": task,
                    "images": 1000,
                    "images_right": right,
                    "guesses": 8,
                    "guesses_right": found,
                    "guessed": {},
                }
                for task in range(tasks)
            ],
            "seconds": 1.0,
        }
        for tasks, right, found in checkpoints
    ]
    progress = {"train_seconds": dict(enumerate(seconds)), "checkpoints": tested, "first_scores": {}}
    if seconds:
        (path / "progress.json").write_text(json.dumps(progress) + "\n")
        write_manifest(path, len(seconds) if learned is None else learned)
    if done:
        (path / "summary.json").write_text(json.dumps(summary_of(recipe, seconds, checkpoints)))
    if ended is not None:
        (path / LOCK).write_text(json.dumps({**NOTE, "ended": ended}))
    os.utime(path / "recipe.json", (BEGUN, BEGUN))
    return RunFolder(path)


def write_manifest(path, tasks):
    (path / "bank").mkdir(exist_ok=True)
    shard = {"file": f"masks-00000000-{tasks:06d}.safetensors", "tasks": tasks, "bytes": 34_400 * tasks}
    manifest = {
        "format": "supsup-mask-bank",
        "version": 2,
        "fingerprint": "ab",
        "seed": 0,
        "parameters": [],
        "buffers": [],
    }
    manifest |= {"buffer_dtype": "float32", "compact": False, "shards": [shard] if tasks else []}
    (path / "bank" / "manifest.json").write_text(json.dumps(manifest))


def summary_of(recipe, seconds, checkpoints):
    tested = [
        {
            "tasks_learned": tasks,
            "accuracy": right / 1000,
            "task_inference_accuracy": found / 8,
            "forgetting": None,
            "backward_transfer": None,
        }
        for tasks, right, found in checkpoints
    ]
    sizes = {"contexts": 34_400 * recipe.tasks, "shared": 0, "buffers": 0, "total": 34_400 * recipe.tasks}
    return {
        "recipe": recipe.name,
        "method": recipe.method.kind,
        "scenario": recipe.evaluation.scenario,
        "seed": recipe.seed,
        "device": "cpu",
        "machine": "",
        "data": "MNIST-5k",
        "tasks": recipe.tasks,
        "checkpoints": tested,
        "accuracy_per_task": [],
        "seconds": {"train": sum(seconds), "infer": 1.0, "first_tests": 0.0},
        "bytes": sizes,
        "settings": dataclasses.asdict(recipe),
        "versions": {},
        "finished": "2026-11-22T10:00:00+00:00",
    }


def line_of(parent, name="run"):
    (line,) = (line for line in RunListing(parent).lines() if line.name == name)
    return line


def test_a_real_run_in_a_line(tmp_path):
    folder = begin(tmp_path / "run")
    summary = execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())
    line = line_of(tmp_path)
    assert (line.name, line.state, line.problem) == ("run", "done", "")
    assert (line.recipe, line.method, line.stream) == ("demo", "supsup", "permuted-mnist")
    assert (line.backbone, line.scenario, line.seed) == ("fully-connected", "GNu", 0)
    assert (line.tasks, line.learned) == (3, 3)
    assert (line.device, line.data) == ("cpu", "MNIST-5k")
    assert line.accuracy == folder.progress().checkpoints[-1].accuracy
    assert line.task_inference_accuracy == folder.progress().checkpoints[-1].task_inference_accuracy
    assert line.train_seconds == summary["seconds"]["train"]
    assert line.stored_bytes == 3 * 34_400
    assert line.ended == datetime.fromisoformat(summary["finished"])
    assert (line.steps_per_second, line.seconds_left) == (None, None)
    assert (datetime.now(UTC) - line.begun).total_seconds() < 600


def test_a_real_run_that_was_stopped(tmp_path):
    folder = begin(tmp_path / "run")
    with folder.locked(), pytest.raises(Stop):
        execute(folder, RECIPE, embedded_mnist(), CPU, Watcher(stop_at=30))  # while the first two tasks are tested
    line = line_of(tmp_path)
    assert (line.state, line.learned, line.tasks) == ("stopped", folder.tasks_saved, 3)
    assert line.learned >= 1
    assert line.train_seconds == sum(folder.progress().train_seconds.values())
    last = folder.progress().checkpoints[-1]
    assert (line.accuracy, line.task_inference_accuracy) == (last.accuracy, last.task_inference_accuracy)


@pytest.mark.parametrize(
    ("ended", "state", "problem"),
    [
        ("stopped", "stopped", ""),
        ("finished", "stopped", ""),
        ("", "died", ""),
        ("OSError: no space left", "failed", "OSError: no space left"),
    ],
)
def test_how_its_process_ended(tmp_path, ended, state, problem):
    write_run(tmp_path / "run", seconds=(2.0,), ended=ended)
    line = line_of(tmp_path)
    assert (line.state, line.problem) == (state, problem)


def test_a_run_that_goes_on_has_a_pace_and_a_time_left(tmp_path):
    recipe = dataclasses.replace(RECIPE, tasks=20, method=SupSupSettings(training=MaskTraining(batches=100)))
    folder = write_run(
        tmp_path / "run", recipe=recipe, seconds=(50.0, *[4.0] * 6, *[2.0] * 4), checkpoints=[(2, 800, 6)]
    )
    moment = time.time() - 1.0
    with folder.locked():
        for name in ("recipe.json", "progress.json", "environment.json", "bank", "lock"):
            os.utime(folder.path / name, (moment, moment))
        line = line_of(tmp_path)
    # Of the last ten tasks six took 4 s and four 2 s; the first, which warms up, counts no more.
    assert line.seconds_a_task == pytest.approx(3.2)
    assert line.steps_per_second == pytest.approx(100 / 3.2)
    assert line.train_seconds == pytest.approx(50 + 24 + 8)
    assert 9 * 3.2 - 3.2 <= line.seconds_left <= 9 * 3.2 - 1.0
    assert (line.state, line.learned, line.ended) == ("running", 11, None)
    assert (line.accuracy, line.task_inference_accuracy) == (0.8, 0.75)
    after = line_of(tmp_path)
    assert (after.state, after.steps_per_second, after.seconds_left) == ("stopped", None, None)
    assert after.ended is not None


def test_a_task_in_training_takes_no_more_off_the_time_left_than_a_task(tmp_path):
    recipe = dataclasses.replace(RECIPE, tasks=3)
    folder = write_run(tmp_path / "run", recipe=recipe, seconds=(4.0, 4.0))
    with folder.locked():
        for entry in (*folder.path.iterdir(), folder.bank):
            os.utime(entry, (BEGUN, BEGUN))
        assert line_of(tmp_path).seconds_left == 0.0


@pytest.mark.parametrize(
    ("tasks_at_once", "device", "checkpoints", "in_training"),
    [
        (100, "cuda:0", (), 100),
        (100, "cuda:0", (50, 130), 30),
        (10, "cuda:0,cuda:1", (), 20),
        (200, "cuda:0", (), 150),
        (None, "cpu", (), 1),
    ],
)
def test_time_since_the_last_save_counts_for_all_tasks_that_train_together(
    tmp_path, tasks_at_once, device, checkpoints, in_training
):
    recipe = dataclasses.replace(RECIPE, tasks=250, evaluation=Evaluation(checkpoints=checkpoints))
    folder = write_run(tmp_path / "run", recipe=recipe, seconds=[1.0] * 100, device=device)
    if tasks_at_once is not None:
        environment = json.loads((folder.path / "environment.json").read_text())
        (folder.path / "environment.json").write_text(json.dumps({**environment, "tasks_at_once": tasks_at_once}))
    with folder.locked():
        for passed in (5.0, 1000.0):
            moment = time.time() - passed
            for entry in (*folder.path.iterdir(), folder.bank):
                os.utime(entry, (moment, moment))
            line = line_of(tmp_path)
            assert (line.tasks_in_training, line.seconds_a_task) == (in_training, 1.0)
            # A slow machine may look later, but never earlier than `passed`.
            assert 150 - in_training <= line.seconds_left <= 150 - min(passed, in_training)


def test_before_the_first_task_nothing_is_known(tmp_path):
    folder = write_run(tmp_path / "run")
    with folder.locked():
        line = line_of(tmp_path)
    assert (line.state, line.learned, line.train_seconds) == ("running", 0, 0)
    assert (line.accuracy, line.seconds_left, line.steps_per_second) == (None, None, None)
    assert line.begun == datetime.fromtimestamp(BEGUN, UTC)


def test_tasks_count_when_they_are_saved(tmp_path):
    write_run(tmp_path / "run", seconds=(2.0, 3.0), learned=1)  # a stop between progress.json and the bank
    assert line_of(tmp_path).learned == 1


def test_where_a_recipe_counts_epochs_there_is_no_step_rate(tmp_path):
    recipe = dataclasses.replace(RECIPE, method=HopSupSupSettings())
    folder = write_run(tmp_path / "run", recipe=recipe, seconds=(4.0,))
    with folder.locked():
        line = line_of(tmp_path)
    assert (line.method, line.steps_per_second, line.seconds_a_task) == ("hopsupsup", None, 4.0)


def test_progress_is_read_whole_only_where_a_checkpoint_should_be(tmp_path):
    recipe = dataclasses.replace(RECIPE, tasks=5, evaluation=Evaluation(checkpoints=(3,)))
    folder = write_run(tmp_path / "run", recipe=recipe, seconds=(2.0, 3.0), checkpoints=[(1, 900, 8)])
    text = (folder.path / "progress.json").read_text()
    (folder.path / "progress.json").write_text(text[: text.index("}") + 1] + " and what follows is not looked at")
    line = line_of(tmp_path)
    assert (line.state, line.train_seconds, line.accuracy) == ("stopped", 5.0, None)
    write_manifest(folder.path, 3)
    assert "progress.json: not JSON" in line_of(tmp_path).problem


def test_progress_in_another_order_is_read_as_well(tmp_path):
    folder = write_run(tmp_path / "run", seconds=(2.0, 3.0))
    content = json.loads((folder.path / "progress.json").read_text())
    (folder.path / "progress.json").write_text(json.dumps(dict(reversed(content.items())), indent=1))
    assert line_of(tmp_path).train_seconds == 5.0
    (folder.path / "progress.json").write_text(json.dumps(content, indent=1))
    assert line_of(tmp_path).train_seconds == 5.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("recipe.json", "{", "recipe.json: not JSON"),
        ("recipe.json", "[]", "recipe.json"),
        ("recipe.json", '{"name": "demo", "tasks": "many"}', "recipe.json: "),
        ("recipe.json", recipe_files.to_json(RECIPE).replace('"seed": 0', f'"seed": {2**63}'), "recipe.json: seed"),
        ("environment.json", None, "environment.json: missing"),
        ("environment.json", "{}", "environment.json: device"),
        ("summary.json", '{"checkpoints": []}', "summary.json: "),
        ("summary.json", "", "summary.json: not JSON"),
        ("bank/manifest.json", "{}", "not the manifest of a mask bank"),
        ("progress.json", '{"train_seconds": {"0": "long"}}', "progress.json: train_seconds.0"),
    ],
)
def test_a_damaged_run_says_what_is_wrong_in_one_line_and_shows_the_rest(tmp_path, name, text, message):
    done = name == "summary.json"
    folder = write_run(tmp_path / "run", seconds=(2.0, 2.0, 2.0), checkpoints=[(3, 900, 8)], done=done)
    write_run(tmp_path / "other", seconds=(2.0, 2.0, 2.0), checkpoints=[(3, 900, 8)], done=True)
    (folder.path / name).unlink()
    if text is not None:
        (folder.path / name).write_text(text)
    line = line_of(tmp_path)
    assert line.state == "damaged"
    assert message in line.problem
    assert "\n" not in line.problem
    if name != "recipe.json":
        assert (line.recipe, line.tasks) == ("demo", 3)
    assert line_of(tmp_path, "other").state == "done"


def test_a_run_that_goes_on_is_running_whatever_is_damaged(tmp_path):
    folder = write_run(tmp_path / "run", seconds=(2.0,))
    (folder.path / "environment.json").unlink()
    with folder.locked():
        line = line_of(tmp_path)
    assert line.state == "running"
    assert "environment.json" in line.problem


def test_a_lock_that_cannot_be_looked_at_is_damage_until_it_can(tmp_path):
    folder = write_run(tmp_path / "run", seconds=(2.0,))
    write_run(tmp_path / "other", seconds=(2.0,), ended="stopped")
    (folder.path / LOCK).symlink_to(LOCK)  # which, as one without permission, has no moment of its own
    listing = RunListing(tmp_path)
    found = {line.name: line for line in listing.lines()}
    assert (found["run"].state, found["other"].state) == ("damaged", "stopped")
    assert found["run"].problem.startswith(f"{folder.path / LOCK}: it does not tell whether a process works on the run")
    assert found["run"].learned == 1
    (folder.path / LOCK).unlink()
    assert {line.state for line in listing.lines()} == {"stopped"}


@pytest.fixture
def of_nobody():
    """A folder of somebody to whom things can be forbidden, who has the test's place: root becomes nobody."""
    with tempfile.TemporaryDirectory() as folder:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, _NOBODY, _NOBODY)
            os.seteuid(_NOBODY)
        yield Path(folder)
        if is_root:
            os.seteuid(0)


def test_a_run_that_others_may_not_look_at_takes_no_other_away(of_nobody):
    folder = write_run(of_nobody / "run", seconds=(2.0,), ended="stopped")
    hidden = write_run(of_nobody / "elsewhere" / "hidden", seconds=(2.0,))
    (of_nobody / "link").symlink_to(hidden.path)
    (folder.path / LOCK).chmod(0)
    hidden.path.parent.chmod(0)
    listing = RunListing(of_nobody)
    try:
        assert [(line.name, line.state) for line in listing.lines()] == [("run", "damaged")]
        (folder.path / LOCK).chmod(0o600)
        assert [(line.name, line.state) for line in listing.lines()] == [("run", "stopped")]
    finally:
        hidden.path.parent.chmod(0o700)


def test_what_changes_is_seen_again(tmp_path):
    listing = RunListing(tmp_path)
    assert listing.lines() == []
    folder = write_run(tmp_path / "run", seconds=(2.0,))
    assert listing.lines()[0].learned == 1
    (folder.path / "progress.json").write_text('{"train_seconds": {"0": 2.0, "1": 3.0}, "checkpoints": []}')
    write_manifest(folder.path, 2)
    line = listing.lines()[0]
    assert (line.learned, line.train_seconds) == (2, 5.0)
    assert listing.lines()[0] == line
    summary = summary_of(RECIPE, (2.0, 3.0, 4.0), [(3, 500, 4)])
    (folder.path / "summary.json").write_text(json.dumps(summary))
    line = listing.lines()[0]
    assert (line.state, line.learned, line.train_seconds, line.accuracy) == ("done", 3, 9.0, 0.5)
    (folder.path / "recipe.json").unlink()
    assert listing.lines() == []


def test_what_is_no_run_is_not_listed(tmp_path):
    write_run(tmp_path / ".deleted-1", seconds=(2.0,))
    (tmp_path / "queue").mkdir()
    (tmp_path / "mlflow.db").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    write_run(tmp_path / os.fsdecode(b"\xff"), seconds=(2.0,))
    assert RunListing(tmp_path).lines() == []
    assert RunListing(tmp_path / "nowhere").lines() == []
    assert RunListing(tmp_path / "mlflow.db").lines() == []


def test_the_entry_in_the_tracking_store_is_known(tmp_path):
    folder = write_run(tmp_path / "run", seconds=(2.0,))
    assert line_of(tmp_path).tracking_id == ""
    (folder.path / "mlflow-run-id").write_text("abc\n")
    assert line_of(tmp_path).tracking_id == "abc"


def test_a_thousand_runs(tmp_path, capsys):
    """Each line is as what it was made from says; a second look costs a fraction, and is printed."""
    drawn, made = random.Random(0), {}  # noqa: S311
    for number in range(1000):
        tasks = drawn.randint(1, 12)
        learned, done = drawn.randint(1, tasks), drawn.random() < 0.8
        learned = tasks if done else learned
        seconds = [drawn.uniform(1, 5) for _ in range(learned)]
        right = drawn.randint(100, 1000)
        recipe = dataclasses.replace(RECIPE, tasks=tasks, seed=number, evaluation=Evaluation(checkpoints=(learned,)))
        tested = [(learned, right, 4)] if done or drawn.random() < 0.5 else []
        write_run(
            tmp_path / f"demo-{number}", recipe=recipe, seconds=seconds, checkpoints=tested, done=done, ended="stopped"
        )
        expected = (
            number,
            tasks,
            learned,
            "done" if done else "stopped",
            pytest.approx(right / 1000) if tested else None,
        )
        made[f"demo-{number}"] = (*expected, pytest.approx(sum(seconds)))
    listing = RunListing(tmp_path)
    start = time.perf_counter()
    lines = listing.lines()
    first = time.perf_counter()
    again = listing.lines()
    end = time.perf_counter()
    with capsys.disabled():
        print(f"\n1,000 runs listed in {first - start:.3f} s, and again in {end - first:.3f} s")  # noqa: T201
    assert again == lines
    found = {
        line.name: (line.seed, line.tasks, line.learned, line.state, line.accuracy, line.train_seconds)
        for line in lines
    }
    assert found == made
