"""Runs whose files a crash of the machine damaged: truncated, flipped or missing, they end as if nothing had happened."""

import shutil

import pytest
import torch
from supsup_core import bank_files
from supsup_datasets import embedded_mnist
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run

from .test_running import CPU, RECIPE, Watcher, begin, grouped, results


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run that is done, each task in a shard of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bank_files, "_SHARD_BYTES", 1)
        folder = begin(tmp_path_factory.mktemp("runs") / "done")
        return folder, execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


LAST = "bank/masks-00000002-000001.safetensors"
SECOND = "bank/masks-00000001-000001.safetensors"


@pytest.mark.parametrize(
    ("name", "damage", "relearned"),
    [
        ("summary.json", truncated, 0),
        ("summary.json", emptied, 0),
        ("progress.json", truncated, 0),
        ("progress.json", emptied, 0),
        ("bank/manifest.json", truncated, 0),
        ("bank/manifest.json", emptied, 0),
        ("bank/manifest.json", removed, 0),
        (LAST, truncated, 1),
        (LAST, flipped, 1),
        (LAST, removed, 1),
        (SECOND, truncated, 2),
        (SECOND, flipped, 2),
    ],
)
def test_a_damaged_run_goes_on_and_ends_the_same(tmp_path, done, name, damage, relearned):
    folder, summary = done
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    damage(copied.path / name)
    if name != "summary.json":
        (copied.path / "summary.json").unlink()
    watcher = Watcher()
    again = execute(copied, RECIPE, embedded_mnist(), CPU, watcher)
    assert results(again) == results(summary)
    assert torch.equal(open_run(copied.path).bank.rows, open_run(folder.path).bank.rows)
    assert watcher.calls.count("batch trained") == 10 * relearned
    notes = [call[1] for call in watcher.calls if call[0] == "noted"]
    assert len(notes) == 1
    assert "damaged-1" in notes[0]
    (aside,) = copied.path.glob("*.damaged-1")
    assert aside.name in notes[0]


def test_a_bank_of_which_nothing_is_intact_is_learned_again(tmp_path, done):
    folder, summary = done
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    (copied.path / "summary.json").unlink()
    for path in copied.bank.iterdir():
        emptied(path)
    watcher = Watcher()
    assert results(execute(copied, RECIPE, embedded_mnist(), CPU, watcher)) == results(summary)
    assert watcher.calls.count("batch trained") == 30
    assert any("no task before it is kept" in call[1] for call in watcher.calls if call[0] == "noted")


@pytest.mark.parametrize(("damaged", "relearned"), [(4, 2), (3, 2), (2, 3), (1, 5), (0, 5)])
def test_tasks_learned_together_are_learned_again_together(tmp_path, monkeypatch, damaged, relearned):
    """Five tasks, two at once, tested after three: the groups are (0, 1), (2,) and (3, 4)."""
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 1)
    folder, recipe = grouped(tmp_path / "run")
    summary = execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    rows = open_run(folder.path).bank.rows.clone()
    (folder.path / "summary.json").unlink()
    flipped(folder.bank / f"masks-{damaged:08d}-000001.safetensors")
    watcher = Watcher()
    assert results(execute(folder, recipe, embedded_mnist(), CPU, watcher)) == results(summary)
    assert watcher.calls.count("batch trained") == 10 * relearned
    assert torch.equal(open_run(folder.path).bank.rows, rows)


def test_two_damages_are_set_aside_under_two_names(tmp_path, done):
    folder, _ = done
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    for _ in range(2):
        (copied.path / "summary.json").unlink()
        emptied(copied.path / "progress.json")
        execute(copied, RECIPE, embedded_mnist(), CPU, Watcher())
    names = {path.name for path in copied.path.glob("*.damaged-*")}
    assert names == {"progress.json.damaged-1", "progress.json.damaged-2"}


def test_a_mending_that_was_stopped_between_its_last_steps_is_ended(tmp_path, done):
    folder, summary = done
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    (copied.path / "summary.json").unlink()
    copied.bank.rename(copied.path / "bank.mended")
    watcher = Watcher()
    assert results(execute(copied, RECIPE, embedded_mnist(), CPU, watcher)) == results(summary)
    assert watcher.calls.count("batch trained") == 0


def test_what_writes_that_never_ended_left_behind_is_swept_away(tmp_path, done):
    folder, _ = done
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    (copied.path / "summary.json").unlink()
    left = [copied.path / ".progress.json.0a1b2c3d.partial", copied.bank / ".masks-00000003-000001.0a1b2c3d.partial"]
    left.append(copied.path / ".in-training-000001.safetensors.0a1b2c3d.partial")
    others = copied.path / ".watched-000001.json.0a1b2c3d.partial"
    for path in (*left, others):
        path.write_bytes(b"torn")
    execute(copied, RECIPE, embedded_mnist(), CPU, Watcher())
    assert not any(path.exists() for path in left)
    assert others.exists(), "who asks a run something has no lock on it, and may be about to end its write"
