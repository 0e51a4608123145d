"""Everything a user can get wrong: one line that names what was given, the rule and the way out; exit 2; nothing changed."""

import gzip
import os
import shutil
import signal
import sys
import time
import weakref
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from supsup_datasets import embedded_mnist, mnist_files
from supsup_methods import training
from supsup_methods.commands.exits import guarded
from supsup_methods.commands.launch import parse_launch
from supsup_methods.commands.train import _train
from supsup_methods.recipes import RECIPES
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder

from .processes import SMALL


@pytest.fixture
def attempt(tmp_path, monkeypatch, capsys):
    """Run supsup-train in an empty folder of its own; return its status and what it said."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*options):
        status = guarded(_train, list(options))
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert line.startswith("error: ")
        assert list(work.iterdir()) == [], "nothing may be left behind"
        return status, line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("demoo",), ("recipe demoo: not known", "did you mean demo?", "there are: demo")),
        (("table99",), ("recipe table99: not known", "there are: demo")),
        (("--tsaks", "3"), ("--tsaks", "--help lists all options")),
        (("demo", "extra"), ("extra", "--help lists all options")),
        (("--tasks",), ("--tasks", "--help")),
        (("--tasks", "0"), ("--tasks 0: it should be greater than or equal to 1", "choose another")),
        (("--tasks-at-once", "0"), ("--tasks-at-once 0: a whole number of tasks is trained; choose 1 or more",)),
        (
            ("--tasks-at-once", "100000", "--tasks", "100000"),
            ("--tasks-at-once: training takes about", "fewer at once"),
        ),
        (("--tasks", "-3"), ("--tasks -3: it should be greater than or equal to 1",)),
        (("--tasks", "1e9"), ("--tasks 1e9: it should be a whole number; choose another value",)),
        (("--method.training.learning-rate", "fast"), ("learning-rate fast: it should be a number; choose",)),
        (("--tasks", "1000000000"), ("--tasks 1000000000: it should be less than or equal to 1000000",)),
        (("--tasks", "three"), ("--tasks three: it should be a whole number; choose another value",)),
        (("--tasks", "2.5"), ("--tasks 2.5: it should be a whole number; choose another value",)),
        (("--name", "other"), ("--name other: a recipe keeps its name, demo; name the run's folder by --out",)),
        (("--seed", "-1"), ("--seed -1: it should be greater than or equal to 0",)),
        (("--backbone.outputs", "9"), ("--backbone.outputs 9: a task has 10 labels",)),
        (("--backbone.hidden", "300", "0"), ("--backbone.hidden 0",)),
        (("--method.training.batches", "0"), ("--method.training.batches 0",)),
        (
            ("--method.training.learning-rate", "nan"),
            ("--method.training.learning-rate nan: it should be a finite number",),
        ),
        (("--method.inference.objective", "M"), ("objective", "M")),
        (("--evaluation.scenario", "NNu"), ("scenario", "NNu")),
        (("--device", "tpu"), ("--device tpu: not a device", "auto, cpu, cuda")),
        (("--device", "cuda:x"), ("--device cuda:x: not a device",)),
        (("--data-root", "/nowhere/at/all"), ("data root /nowhere/at/all: no such folder", "create it")),
        (("--resume",), ("--resume: which run", "--out")),
        (("--resume", "--out", "nowhere"), ("nowhere: no run here",)),
        (("--summary", "nowhere/result.json"), ("--summary nowhere/result.json: the folder nowhere does not exist",)),
        (("--summary", "/"), ("--summary /: it is a folder",)),
        (("--summary", "/proc/result.json"), ("choose another place",)),
        (("--out", "run", "--summary", "run/recipe.json"), ("--summary run/recipe.json: ",)),
        (("--data-root", "/etc/hostname"), ("data root /etc/hostname: it is a file; name the folder",)),
        (
            ("--method.inference.objective", "G", "--backbone.outputs", "10"),
            ("--method.inference.objective G: with 10 outputs and 10 labels no neuron is superfluous",),
        ),
        (
            ("table3-psp", "--tasks", "1", "--backbone.hidden", "100000"),
            ("training takes about 672.9 GB of memory", "choose a narrower network"),
        ),
        (("table3-psp", "--method.kind", "supsup"), ("--method.kind supsup: the recipe decides it, and has psp",)),
        (("table3-psp", "--evaluation.scenario", "GNu"), ("psp must be given the task of test images; choose GG",)),
        (("table3-psp", "--tasks-at-once", "2"), ("psp learns one task after the other here; choose 1",)),
        (("table6-supsup-h", "--tasks", "37"), ("--tasks 37: rotated-mnist turns by ten degrees a task",)),
        (("--evaluation.checkpoints", "50"), ("--evaluation.checkpoints 50: the run ends after --tasks 10",)),
        (
            ("--tasks", "1", "--backbone.hidden", "100000", "100000"),
            ("--backbone.hidden, --tasks, --tasks-at-once: training takes about ", "choose a narrower network, fewer"),
        ),
        (("--out", "/proc/run"), ("/proc/run", "choose another place")),
        (
            ("figure7-hopsupsup", "--tasks", "6"),
            ("--tasks 6: split-mnist has five pairs of digits; ask for 5 or fewer",),
        ),
        (
            ("figure7-hopsupsup", "--evaluation.scenario", "GG"),
            ("--evaluation.scenario GG: hopsupsup keeps no mask by task; choose GNs or GNu",),
        ),
        (
            ("figure7-hopsupsup", "--stream.kind", "permuted-mnist"),
            ("--stream.kind permuted-mnist: the recipe decides it, and has split-mnist; choose another recipe",),
        ),
        (
            ("--stream.kind", "split-mnist"),
            ("--stream.kind split-mnist: the recipe decides it, and has permuted-mnist; choose another recipe",),
        ),
        (
            ("figure7-hopsupsup", "--backbone.kind", "fully-connected"),
            ("--backbone.kind fully-connected: the recipe decides it, and has normalised-fully-connected",),
        ),
        (
            ("--backbone.kind", "small-convolutional"),
            ("--backbone.kind small-convolutional: the recipe decides it, and has fully-connected",),
        ),
        (
            ("figure7-hopsupsup", "--method.kind", "supsup"),
            ("--method.kind supsup: the recipe decides it, and has hops",),
        ),
        (("figure7-hopsupsup", "--backbone.outputs", "9"), ("--backbone.outputs 9: a task has 10 labels",)),
        (("figure7-hopsupsup", "--backbone.channels", "3"), ("--backbone.channels", "--help lists all options")),
        (("figure7-hopsupsup", "--method.training.batches", "3"), ("--method.training.batches", "--help lists")),
        (("figure7-hopsupsup", "--method.training.epochs", "0"), ("--method.training.epochs 0: it should be greater",)),
        (("figure7-hopsupsup", "--tasks-at-once", "2"), ("hopsupsup learns one task after the other here; choose 1",)),
        (
            ("figure7-hopsupsup", "--method.rule", "hopfield"),
            ("--method.rule hopfield: it should be one of hebb, storkey, strict-storkey; choose another value",),
        ),
        (
            ("figure7-hopsupsup", "--method.couplings", "all"),
            ("--method.couplings all: it should be one of across-layers, within-layers; choose another value",),
        ),
        (
            ("figure7-hopsupsup", "--method.recovery.batch-size", "1"),
            ("--method.recovery.batch-size 1: it should be greater than or equal to 2",),
        ),
        (("figure7-hopsupsup", "--method.recovery.passes", "0"), ("--method.recovery.passes 0: it should be greater",)),
        (
            ("figure7-hopsupsup", "--method.recovery.momentum", "1"),
            ("--method.recovery.momentum 1.0: it should be less",),
        ),
        (
            ("figure7-hopsupsup", "--method.recovery.strength", "0"),
            ("--method.recovery.strength 0.0: it should be gre",),
        ),
        (
            ("figure7-hopsupsup", "--backbone.hidden", "100000", "100000"),
            ("--backbone.hidden, --tasks, --tasks-at-once: training takes about ", "choose a narrower network, fewer"),
        ),
    ],
)
def test_it_is_told_in_one_line(attempt, options, parts):
    status, line = attempt(*options)
    assert status == 2
    for part in parts:
        assert part in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(attempt, name):
    assert attempt("--device", name) == (
        2,
        f"--device {name}: this machine has no usable GPU; use --device cpu or auto",
    )


def test_masks_that_no_disk_can_hold_are_refused(attempt, monkeypatch):
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: namedtuple("Usage", "total free")(10**9, 10**6))
    status, line = attempt("--tasks", "1000")
    assert status == 2
    assert "--tasks 1000: what they learn takes 34.4 MB and " in line
    assert "has 1.0 MB free; learn fewer tasks, or name an --out with more space" in line


@pytest.fixture
def taken(tmp_path):
    """Places that hold something precious."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    return tmp_path


@pytest.mark.parametrize(
    ("option", "place", "rule"),
    [
        ("--out", "run", "it holds another run; go on with it by --resume, or choose another folder"),
        ("--out", "folder", "it is not empty and holds no run; choose another folder"),
        ("--out", "file", "it is a file; choose another folder"),
        ("--summary", "file", "it exists and is not overwritten; choose another name, or remove it"),
    ],
)
def test_what_exists_is_not_overwritten(attempt, taken, option, place, rule):
    before = {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()}
    assert attempt(option, str(taken / place)) == (2, f"{option} {taken / place}: {rule}")
    assert {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()} == before


def damaged_mnist(root: Path, damage) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 20), ("t10k", 10)):
        header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (count, 28, 28))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + bytes(count * 784))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes(count))
    damage(raw)
    return root


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda raw: os.truncate(raw / "train-images-idx3-ubyte", 5000), "train-images-idx3-ubyte: 5000 bytes where"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(gzip.compress(b"x")),
            "t10k-labels-idx1-ubyte: not an IDX file",
        ),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(9)),
            "10 test images and 9 test labels",
        ),
        (lambda raw: None, "train-images-idx3-ubyte: unpacked, its SHA-256 sum is "),
        (lambda raw: (raw / "train-labels-idx1-ubyte").unlink(), "train-labels-idx1-ubyte: no such file"),
    ],
)
def test_a_damaged_data_file_is_named(attempt, tmp_path, damage, part):
    status, line = attempt("--data-root", str(damaged_mnist(tmp_path / "data", damage)))
    assert status == 2
    assert part in line


def test_what_may_not_be_read_is_named(tmp_path):
    """As a user without rights: the superuser, who may read everything, becomes nobody in a process of its own."""
    root = damaged_mnist(tmp_path / "data", lambda raw: None)
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").chmod(0)
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    said, write = os.pipe()
    child = os.fork()
    if child == 0:  # leaves by _exit alone: nothing of pytest runs twice
        os.dup2(write, 2)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        if os.getuid() == 0:
            os.setuid(65534)
        os._exit(guarded(_train, ["--data-root", str(root), "--out", str(tmp_path / "out")]))
    os.close(write)
    with open(said) as pipe:
        line = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert "train-labels-idx1-ubyte: not readable (Permission denied)" in line


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A run that was begun and holds no task yet."""
    folder = RunFolder(tmp_path_factory.mktemp("stopped") / "run")
    folder.path.mkdir()
    folder.begin(RECIPES["demo"], describe_environment(torch.device("cpu"), embedded_mnist(), None))
    return folder.path


def test_a_resumed_run_overwrites_only_its_own_summary(attempt, stopped_run, tmp_path):
    for content in ("precious", "{}", '{"settings": {"tasks": 10}}'):
        (tmp_path / "notes").write_text(content)
        status, line = attempt("--resume", "--out", str(stopped_run), "--summary", str(tmp_path / "notes"))
        assert status == 2
        assert "it exists and is not overwritten" in line
        assert (tmp_path / "notes").read_text() == content


def test_the_last_of_two_folders_counts(attempt, stopped_run, tmp_path):
    status, line = attempt("--resume", "--out", str(stopped_run), "--out", str(tmp_path / "nowhere"))
    assert status == 2
    assert f"{tmp_path / 'nowhere'}: no run here" in line


def test_a_run_with_checkpoints_of_its_own_goes_on_by_the_name_of_its_recipe(tmp_path):
    recipe = replace(
        RECIPES["table3-supsup-h"], tasks=200
    )  # as Python begins it, with a checkpoint that is never reached
    assert recipe.evaluation.checkpoints == (10, 50, 100, 150, 200)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.begin(recipe, describe_environment(torch.device("cpu"), embedded_mnist(), None))
    assert parse_launch(["table3-supsup-h", "--resume", "--out", str(folder.path)]).recipe == recipe
    assert parse_launch(["--resume", "--out", str(folder.path)]).recipe == recipe


@pytest.mark.parametrize("name", ["environment.json", "recipe.json"])
def test_a_run_that_does_not_say_what_it_is_is_not_gone_on_with(attempt, stopped_run, tmp_path, name):
    copied = shutil.copytree(stopped_run, tmp_path / "copy")
    (copied / name).write_text("{}")
    status, line = attempt("--resume", "--out", str(copied))
    assert status == 2
    assert name in line


def test_a_run_of_another_device_is_not_gone_on_with(attempt, stopped_run, tmp_path):
    copied = shutil.copytree(stopped_run, tmp_path / "copy")
    environment = (copied / "environment.json").read_text()
    for device in ("cuda:7", "nonsense"):
        (copied / "environment.json").write_text(environment.replace('"cpu"', f'"{device}"'))
        status, line = attempt("--resume", "--out", str(copied))
        assert status == 2
        assert f"--device {device}: " in line


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--tasks", "20"), "was started with --tasks 10, not 20; start a new run"),
        (("--method.training.learning-rate", "0.1"), "--method.training.learning-rate 0.0001, not 0.1"),
        (SMALL, "--tasks 10, not 3"),
    ],
)
def test_a_resumed_run_cannot_become_another(attempt, stopped_run, options, part):
    status, line = attempt("--resume", "--out", str(stopped_run), *options)
    assert status == 2
    assert part in line


def test_a_resumed_run_keeps_its_data(attempt, stopped_run, tmp_path, monkeypatch):
    root = damaged_mnist(tmp_path / "data", lambda raw: None)
    monkeypatch.setattr(mnist_files, "_MNIST_SHA256", {})  # as if these were the originals
    status, line = attempt("--resume", f"--out={stopped_run}", "--data-root", str(root))
    assert status == 2
    assert "the run was started with MNIST-5k" in line


def test_a_gpu_that_is_full_is_told_in_one_line(capsys):
    def full(argv):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB."
        )

    assert guarded(full, []) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: CUDA out of memory. Tried to allocate 2.00 GiB; what was finished is kept; free memory on"
    )
    assert said.count("\n") == 1


def test_an_interrupt_that_python_drops_comes_again(capsys):
    class Watched:
        pass

    def interrupted_in_a_callback(argv):
        watched = Watched()
        watcher = weakref.ref(watched, lambda _: signal.raise_signal(signal.SIGINT))
        del watched
        assert watcher() is None
        time.sleep(60)

    assert guarded(interrupted_in_a_callback, []) == 130
    assert capsys.readouterr().err == "stopped before the run began\n"


def test_what_else_python_drops_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    class Broken:
        def __del__(self):
            raise ZeroDivisionError

    assert guarded(lambda argv: Broken() and None, []) == 0
    assert told == [ZeroDivisionError]


def test_a_bug_keeps_its_traceback():
    def broken(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(broken, [])
