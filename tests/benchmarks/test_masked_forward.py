"""The benchmark of masked forward passes, on a small network: its figures are what they say, its options are checked."""

import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from supsup_methods.masked_forward.answers import TOLERANCE, WrongAnswerError

from ..methods.wrong_banks import negate_last_layer

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "masked_forward.py"  # a script, no package
TINY = ("--network", "resnet18", "--image-side", "32", "--batch-sizes", "2", "--repeats", "2", "--devices", "cpu")
FORWARDS = {
    "plain forward",
    "masked, weights in place",
    "masked, channels last",
    "masked, with a switch",
    "masked, W × a float mask",
    "masked, W × a bool mask",
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("masked_forward", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_summary_holds_all_ways(benchmark, tmp_path):
    summary = tmp_path / "summary.json"
    assert benchmark.main([*TINY, "--compact-bank", "--summary", str(summary)]) == 0
    told = json.loads(summary.read_text())
    (measured,) = told["settings"]
    assert (told["network"], measured["device"], measured["precision"], measured["batch_size"]) == (
        "resnet18",
        "cpu",
        "float32",
        2,
    )
    kinds = {"half", "sparse"}
    expected = {("plain forward", ""), ("copy of W", ""), ("copy of W to fresh memory", "")}
    switches = ("switch alone", "switch alone, to fresh memory")
    expected |= {(what, kind) for what in switches for kind in (*kinds, *(f"{kind}, compact" for kind in kinds))}
    expected |= {(what, kind) for what in FORWARDS - {"plain forward"} for kind in kinds}
    expected.add(("masked, ones alone", "sparse"))
    rows = {(row["what"], row["masks"]): row for row in measured["rows"]}
    assert set(rows) == expected
    assert len(measured["rows"]) == len(expected)
    weights = 11_678_912  # of ResNet-18: 11,689,512 parameters, less 9,600 of batch norm and 1,000 biases
    assert measured["weights"] == weights
    plain = statistics.median(rows["plain forward", ""]["seconds"])
    for (what, _), row in rows.items():
        assert len(row["seconds"]) == 2
        assert all(seconds > 0 for seconds in row["seconds"])
        assert row["median_seconds"] == statistics.median(row["seconds"])
        assert row["min_seconds"] == min(row["seconds"])
        assert row["overhead"] == row["median_seconds"] / plain - (what in FORWARDS or what == "masked, ones alone")
        moved = dict.fromkeys(switches, weights // 8 + 8 * weights).get(
            what, 8 * weights if what.startswith("copy") else 0
        )
        assert row["bytes"] == moved
        assert row["bytes_per_second"] == moved / row["median_seconds"]
    assert 0 <= measured["largest_difference"] <= TOLERANCE["float32"]


def test_a_bank_with_altered_weights_ends_the_run(benchmark, monkeypatch, tmp_path):
    negate_last_layer(monkeypatch)
    with pytest.raises(WrongAnswerError, match=r"the bank's 'fc\.weight' is not W times the mask"):
        benchmark.main([*TINY, "--summary", str(tmp_path / "summary.json")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--repeats", "0"), "--repeats: 0 is no whole number from 1 up; choose another value"),
        (("--batch-sizes", "1", "x"), "--batch-sizes: x is no whole number from 1 up; choose another value"),
        (("--network", "vgg"), "--network: invalid choice: 'vgg'"),
        (("--devices", "tpu"), "--device tpu: not a device"),
        (("--nothing",), "unrecognized arguments: --nothing; --help lists all options"),
        (("--summary", "nowhere/summary.json"), "the folder nowhere does not exist; create it first"),
        (("--summary", "kept.json"), "--summary kept.json: it exists and is not overwritten; choose another name"),
    ],
)
def test_bad_options_are_told_in_one_line(benchmark, monkeypatch, capsys, tmp_path, options, said):
    monkeypatch.chdir(tmp_path)
    Path("kept.json").write_text("kept")
    assert benchmark.main([*TINY, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert Path("kept.json").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_the_process_ends_with_2():
    ended = subprocess.run(
        [sys.executable, SCRIPT, "--image-side", "-1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: --image-side: ")
