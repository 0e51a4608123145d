"""supsup-eval --bytes: what a run of any method stores."""

import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from supsup_core import MaskBank, byte_ledger
from supsup_datasets import PermutedStream, embedded_mnist
from supsup_methods.assembly import build_problem, open_method
from supsup_methods.byte_accounts import paper_bytes, with_statistics_as
from supsup_methods.commands import byte_questions
from supsup_methods.commands.byte_questions import ask_about_bytes
from supsup_methods.commands.mask_questions import Asked
from supsup_methods.experiment import (
    Evaluation,
    FullyConnected,
    NormalisedFullyConnected,
    Recipe,
    RecurringPermutedMnist,
    SplitMnist,
)
from supsup_methods.mask_training import MaskTraining
from supsup_methods.registry import kind_of
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run, open_run
from supsup_methods.supsup import SupSupSettings

from ..contracts.settings import SMALL, VARIANTS
from .test_eval import CPU, evaluated, learned

TASKS = 2


def brief(settings):
    """Return settings that learn next to nothing, quickly."""
    training = settings.training
    changes = {"batches": 2, "batch_size": 20} if hasattr(training, "batches") else {"epochs": 1}
    return replace(settings, training=replace(training, **changes))


def recipe_of(settings):
    kind = kind_of(settings)
    backbone = NormalisedFullyConnected if kind.masks_units else FullyConnected
    stream = SplitMnist() if kind.masks_units else RecurringPermutedMnist(distinct=TASKS)
    return Recipe(
        "small",
        TASKS,
        stream=stream,
        backbone=backbone(hidden=(30, 20), outputs=12),
        method=settings,
        evaluation=Evaluation(scenario="GNs" if kind.masks_units else kind.scenarios(settings)[-1].value),
    )


def asked_for_bytes(monkeypatch, capsys, path, tmp_path, *options):
    code, out, err = evaluated(
        monkeypatch, capsys, path, "--bytes", "--summary", tmp_path / "answers.json", "--device", "cpu", *options
    )
    assert code == 0, err
    return json.loads((tmp_path / "answers.json").read_text()), out


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A run of SupSup whose masks have moved a little."""
    method = SupSupSettings(training=MaskTraining(batches=60, batch_size=20, learning_rate=1e-2))
    return learned(tmp_path_factory.mktemp("runs") / "masks", recipe_of(method))


@pytest.fixture(scope="module")
def upper_bound(tmp_path_factory):
    return learned(tmp_path_factory.mktemp("runs") / "models", recipe_of(brief(SMALL["upper-bound"])))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_bytes_of_every_method_are_told_and_no_search_is_made(name, monkeypatch, capsys, tmp_path):
    folder = learned(tmp_path / "run", recipe_of(brief(VARIANTS[name])))
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    answers, out = asked_for_bytes(monkeypatch, capsys, folder.path, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before, "the run is only read"
    assert set(answers) == {"run", "machine", "bytes"}, "nothing else was asked"
    found, run = answers["bytes"], open_run(folder.path)
    own = run.method.bytes
    assert found["tasks"] == TASKS
    assert found["stored"] == {
        "files": sum(path.stat().st_size for path in folder.bank.rglob("*") if path.is_file()),
        "contexts": own.contexts,
        "shared": own.shared,
        "buffers": own.buffers,
        "total": own.total,
    }
    assert found["stored"]["files"] > own.total > 0
    assert f"{found['stored']['files']:,}" in out
    counted = paper_bytes(run.recipe.method, run.network, TASKS)
    if counted is None:
        assert found["paper"] is None
        assert "masks" in found
        assert "follow from no formula" in " ".join(out.split())
    else:
        assert found["paper"]["total"] == sum(found["paper"]["parts"].values()) == counted.total
        assert f"{counted.total:,}" in out
        assert "masks" not in found


def test_masks_are_shown_packed_and_coded_beside_what_their_densities_allow(monkeypatch, capsys, masks, tmp_path):
    answers, out = asked_for_bytes(monkeypatch, capsys, masks.path, tmp_path)
    found, run = answers["bytes"]["masks"], open_run(masks.path)
    run.bank.save(tmp_path / "coded", compact=True)
    ledger = byte_ledger(tmp_path / "coded", run.network)
    (coded,) = found["coded"].values()
    assert coded["total"] == sum(path.stat().st_size for path in (tmp_path / "coded").iterdir())
    assert {name: coded[name] for name in ("contexts", "buffers", "bookkeeping", "manifest")} == {
        "contexts": ledger.contexts,
        "buffers": 0,
        "bookkeeping": ledger.bookkeeping,
        "manifest": ledger.manifest,
    }
    assert found["packed"] == {"contexts": run.bank.context_bytes, "buffers": 0}
    assert found["order_0"] == ledger.order_0
    assert coded["contexts_above_order_0"] == pytest.approx(ledger.contexts / ledger.order_0 - 1)
    but_manifest = coded["total"] - coded["manifest"]
    assert coded["all_but_manifest_above_order_0"] == pytest.approx(but_manifest / ledger.order_0 - 1)
    assert coded["per_mask_without_manifest"] == but_manifest / TASKS
    assert [each["layer"] for each in found["densities"]] == [entry.name for entry in run.network.maskable]
    for each in found["densities"]:
        ones = [int(run.bank.masks(task)[each["layer"]].sum()) / each["weights"] for task in range(TASKS)]
        assert (each["least"], each["most"]) == (min(ones), max(ones))
        assert each["mean"] == pytest.approx(sum(ones) / TASKS)
        assert f"{each['mean']:.3%}" in out
    assert f"{coded['contexts_above_order_0']:+.2%}" in out
    assert f"{found['csc_estimate']:,}" in out


def test_searches_are_made_beside_it_where_they_are_named(monkeypatch, capsys, masks, tmp_path):
    answers, out = asked_for_bytes(monkeypatch, capsys, masks.path, tmp_path, "--searches", "one-shot-h")
    assert list(answers["searches"]) == ["one-shot-h"]
    assert answers["bytes"]["tasks"] == TASKS
    assert "one-shot-h" in out


def test_masks_that_are_no_tasks_can_be_merged_beside_it(monkeypatch, capsys, tmp_path):
    folder = learned(tmp_path / "stream", recipe_of(brief(SMALL["supsup-unknown-tasks"])))
    answers, _ = asked_for_bytes(monkeypatch, capsys, folder.path, tmp_path, "--merge")
    assert set(answers) == {"run", "machine", "bytes", "merged"}
    code, _, err = evaluated(monkeypatch, capsys, folder.path, "--bytes", "--merge", "--searches", "one-shot-h")
    assert code == 2
    assert "are no tasks, and searches for one cannot be compared" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "upper-bound searches no contexts for the task, so there is nothing to compare"),
        (("--bytes", "--searches", "one-shot-h"), "upper-bound searches no contexts for the task"),
        (("--bytes", "--merge"), "upper-bound searches no contexts for the task"),
        (("--bytes", "--unknown-tasks", "1"), "upper-bound searches no contexts for the task"),
        (("--bytes", "--searches"), "--searches: none is named; choose from one-shot-h"),
        (("--bytes", "--tasks", "3"), "--tasks 3: the run has learned 2; choose fewer"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(monkeypatch, capsys, upper_bound, options, message):
    code, out, err = evaluated(monkeypatch, capsys, upper_bound.path, *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == "", "nothing is answered before"


def test_a_run_that_has_learned_nothing_is_refused(monkeypatch, capsys, tmp_path):
    folder = RunFolder(tmp_path / "begun")
    folder.path.mkdir()
    folder.begin(recipe_of(brief(SMALL["psp"])), describe_environment(CPU, embedded_mnist(), None))
    code, _, err = evaluated(monkeypatch, capsys, folder.path, "--bytes")
    assert code == 2
    assert "no task is learned yet" in err


def normalised_run(path, dtype, variance=1.0):
    """A run over a network with batch norm."""
    recipe = replace(recipe_of(brief(SMALL["supsup"])), backbone=NormalisedFullyConnected(hidden=(30,), outputs=10))
    dataset = embedded_mnist()
    method = open_method(recipe, build_problem(recipe, dataset, CPU), path / "none", None).method
    method.bank = MaskBank(method.net, dtype)
    for task in range(TASKS):
        generator = torch.Generator().manual_seed(task)
        masks = {entry.name: torch.rand(entry.shape, generator=generator) < 0.5 for entry in method.net.maskable}
        statistics = {
            entry.name: torch.full(entry.shape, variance) if "var" in entry.name else torch.zeros(entry.shape)
            for entry in method.net.task_buffers
        }
        method.bank.append(masks, statistics)
    method.save(path / "bank")
    return Run(path, recipe, method, PermutedStream(dataset, TASKS, seed=0), dataset, (), None)


def test_what_rounding_of_running_statistics_costs_is_measured(tmp_path, monkeypatch):
    def coarse(net, bank, dtype):
        """Round so that something is lost: to means no unit reaches, and all images get the first label."""
        rounded = with_statistics_as(net, bank, dtype)
        if dtype == torch.float16:
            rounded.buffers[:] = 30_000.0
        return rounded

    monkeypatch.setattr(byte_questions, "with_statistics_as", coarse)
    run, console = normalised_run(tmp_path, torch.float32), Console(file=io.StringIO(), width=200)
    found = ask_about_bytes(console, run, Asked(tasks=1, batch_size=100, images_per_guess=1))
    assert list(found["masks"]["coded"]) == ["float16", "float32"]
    buffers = [coded["buffers"] for coded in found["masks"]["coded"].values()]
    assert buffers == [TASKS * 60 * 2, TASKS * 60 * 4]
    test = run.stream[0].test.batch(torch.arange(1000))
    answered = run.network(test.images, run.bank.weights(0)).argmax(dim=-1)
    assert found["accuracy"] == {
        "float16": pytest.approx(float((test.labels == 0).float().mean())),
        "float32": pytest.approx(float((answered == test.labels).float().mean())),
    }
    assert found["accuracy"]["float16"] != found["accuracy"]["float32"]
    assert run.bank.buffers.dtype == torch.float32, "the run itself stays as it is"
    assert f"{found['accuracy']['float32']:.2%}" in console.file.getvalue()


def test_statistics_beyond_the_range_of_float16_are_not_rounded_to_it(tmp_path):
    run, console = normalised_run(tmp_path, torch.float32, variance=70_000.0), Console(file=io.StringIO(), width=200)
    found = ask_about_bytes(console, run, Asked(tasks=1, batch_size=100, images_per_guess=1))
    assert list(found["masks"]["coded"]) == list(found["accuracy"]) == ["float32"]
    said = console.file.getvalue()
    assert "float16 holds numbers up to 65,504, and running statistics here go up to 70,000" in said


def test_rounded_statistics_are_not_compared_with_what_they_were(tmp_path):
    run, console = normalised_run(tmp_path, torch.float16), Console(file=io.StringIO(), width=200)
    assert bool(torch.isfinite(run.bank.buffers).all())
    found = ask_about_bytes(console, run, Asked(tasks=1, batch_size=100, images_per_guess=1))
    assert list(found["masks"]["coded"]) == ["float16"]
    assert "accuracy" not in found
