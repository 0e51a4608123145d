"""The target forward-cost: what it records of a measurement, and one measured end to end by the command, small."""

import json
import re
from dataclasses import replace

import pytest
import torch
from supsup_methods.commands.reproduction_requests import parse_request, reproduce
from supsup_methods.masked_forward.answers import WrongAnswerError
from supsup_methods.masked_forward.drawn_tasks import Setting
from supsup_methods.masked_forward.measuring import Measured, timing_of
from supsup_methods.masked_forward.ways import Way
from supsup_methods.reproduction import forward_cost
from supsup_methods.reproduction.findings import write_findings
from supsup_methods.reproduction.ledger import ledger_of, read_record, section_aside
from supsup_methods.reproduction.record_figures import drawings
from supsup_methods.reproduction.report import report

from .wrong_banks import negate_last_layer

MEDIANS = {  # milliseconds of every way but the plain pass, and whether it is a forward pass
    "copy of W": (8.0, False),
    "switch alone": (5.0, False),
    "masked, weights in place": (99.0, True),
    "masked, with a switch": (108.0, True),
    "masked, W × a float mask": (112.0, True),
}
KINDS = ("half", "sparse")


def around(milliseconds):
    """Seconds of five rounds, whose quartiles lie 2 ms below the median and 1 ms above it."""
    return [(milliseconds + away) / 1000 for away in (-3, -2, 0, 1, 40)]


def told(setting, kinds, repeats):
    """What `measure` answers where a plain pass takes 100 ms an image."""
    plain = around(100.0 * setting.batch_size)
    rows = [timing_of(Way("plain forward", print), plain, plain)]
    for what, (milliseconds, forward) in MEDIANS.items():
        for kind in ("",) if what == "copy of W" else kinds:
            own = milliseconds + (100.0 * (setting.batch_size - 1) if forward else 0.0)
            rows.append(timing_of(Way(what, print, kind, bytes=0 if forward else 4000), around(own), plain))
    rows.append(timing_of(Way("masked, ones alone", print, "sparse"), around(40.0 * setting.batch_size), plain))
    return Measured("cpu", setting.precision, setting.batch_size, setting.channels_last, 1e-6, 32, (), tuple(rows))


@pytest.fixture
def full(bench, monkeypatch):
    """What is found where a measurement answers as `told`, and what was to be measured."""
    bench, carried, said = bench
    asked = []

    def measure(setting, kinds, repeats):
        asked.append((setting, kinds, repeats))
        return told(setting, kinds, repeats)

    monkeypatch.setattr(forward_cost, "measure", measure)
    found = forward_cost.forward_cost(bench)
    assert not carried, "no run is needed"
    return found, asked, said


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The small version, by the command."""
    out = tmp_path_factory.mktemp("reproduction")
    argv = ["forward-cost", "--quick", "--seeds", "3", "--device", "cpu", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER_PATH", "/nowhere/chromium")  # images are tested elsewhere
        reproduce(parse_request(argv), " ".join(argv))
    return out / "records"


def test_it_measures_what_the_paper_speaks_of(full):
    found, asked, said = full
    for (setting, kinds, repeats), images in zip(asked, (1, 16), strict=True):
        assert setting == Setting("resnet50", 224, images, torch.device("cpu"))
        assert (setting.precision, kinds, repeats >= 10) == ("float32", KINDS, True)
    assert [line.split(": ")[0] for line in said] == [
        "forward-cost, resnet50, 1 image",
        "forward-cost, resnet50, 16 images",
    ]
    assert (found.data, found.seeds) == ("random images", (0,))
    assert found.settings["resnet50"]["batch_sizes"] == [1, 16]


def test_rows_are_medians_and_what_they_add_to_a_plain_pass(full):
    rows = {row.what: row for row in full[0].rows}
    assert len(rows) == len(full[0].rows) == 2 * (3 + 2 * 4 * 2 + 2)
    for what, unit, value in (
        ("1 image: plain forward pass", "ms", 100.0),
        ("1 image: W read once, half of a copy", "ms", 4.0),
        ("1 image: W read once, of a plain pass", "%", 4.0),
        ("1 image, half masks: task switch", "ms", 5.0),
        ("1 image, half masks: overhead of a task switch", "%", 5.0),
        ("1 image, half masks: overhead of a masked pass, weights in place", "%", -1.0),
        ("1 image, half masks: overhead of a masked pass, a switch before each call", "%", 8.0),
        ("1 image, Erdős-Rényi masks: overhead of a masked pass, W times a float mask", "%", 12.0),
        ("1 image, Erdős-Rényi masks: masked pass, ones alone", "ms", 40.0),
        ("16 images, Erdős-Rényi masks: overhead of a masked pass, ones alone", "%", -60.0),
        ("16 images: plain forward pass", "ms", 1600.0),
        ("16 images, half masks: overhead of a task switch", "%", 5 / 16),
        ("16 images, Erdős-Rényi masks: masked pass, a switch before each call", "ms", 1608.0),
        ("16 images, Erdős-Rényi masks: overhead of a masked pass, a switch before each call", "%", 8 / 16),
    ):
        assert rows[what].unit == unit
        assert rows[what].ours == pytest.approx((value,))


def test_the_papers_words_stand_beside_one_image_and_decide_nothing(full):
    said = {row.what: row.paper for row in full[0].rows if row.paper}
    estimate = "1 %, at most 3 %"
    assert said == {
        "1 image: plain forward pass": "25 on a GTX 1080 Ti",
        "1 image: W read once, half of a copy": "0.21 on a GTX 1080 Ti",
        "1 image: W read once, of a plain pass": estimate,
        **{
            f"1 image, {masks}: overhead of a {way}": estimate
            for masks in ("half masks", "Erdős-Rényi masks")
            for way in ("task switch", "masked pass, a switch before each call", "masked pass, W times a float mask")
        },
    }
    assert all((row.status, row.paper_value) == ("", None) for row in full[0].rows)


def test_the_figure_has_medians_and_quartiles_of_each_batch_size_and_kind(full):
    found = full[0]
    rows = forward_cost.overheads(found.tables["ways"])
    switch = rows[(rows["images"] == 1) & (rows["masks"] == "half masks") & (rows["way"] == "task switch")]
    assert switch[["overhead", "low", "high"]].to_numpy().tolist() == [[5.0, 3.0, 6.0]]
    assert [trace.name for trace in found.figures["overhead"].data] == [
        f"{images}{masks}" for images in ("1 image", "16 images") for masks in ("", ", half masks", ", Erdős-Rényi masks")
    ]  # fmt: skip


def test_a_record_is_in_the_ledger_and_the_report_and_drawn_as_it_was_measured(full, tmp_path):
    found = full[0]
    record = read_record(write_findings(tmp_path / "records", "forward-cost", found, quick=False)[0])
    section = next(section for section in ledger_of([record]).sections if section.name == "forward-cost")
    assert [(entry.what, entry.mean, entry.paper, entry.status) for entry in section.entries] == [
        (row.what, row.mean, row.paper, "") for row in found.rows
    ]
    assert not section.counts
    text = report(tmp_path, tmp_path)
    assert f"random images, {found.machine}, commit " in text
    assert "| 1 image: plain forward pass | 25 on a GTX 1080 Ti | 100.00 ms (1) |  |" in text
    assert "| 1 image, half masks: overhead of a task switch | 1 %, at most 3 % | 5.00 % (1) |  |" in text
    overhead, milliseconds = drawings(section)
    assert overhead.figure == found.figures["overhead"]
    assert milliseconds.figure.layout.xaxis.title.text == "ms"


def test_a_record_without_the_table_is_drawn_from_its_rows(full, tmp_path):
    record = read_record(write_findings(tmp_path, "forward-cost", replace(full[0], tables={}), quick=False)[0])
    section = next(section for section in ledger_of([record]).sections if section.name == "forward-cost")
    assert [drawing.figure.layout.xaxis.title.text for drawing in drawings(section)] == ["ms", "%"]


def test_the_small_version_is_measured_by_the_command(quick):
    assert {path.name for path in quick.iterdir()} == {"forward-cost-quick.json", "forward-cost-quick-overhead.html"}
    stored = json.loads((quick / "forward-cost-quick.json").read_text())
    assert (stored["quick"], stored["seeds"], stored["data"]) == (True, [0], "random images")
    settings = stored["settings"]["resnet18"]
    assert (settings["image_side"], settings["device"]) == (64, "cpu")
    assert (settings["batch_sizes"], settings["repeats"]) == ([1], [3])
    assert settings["weights"] == 11_678_912  # 11,689,512 parameters, less 9,600 of batch norm and 1,000 biases
    threads = torch.get_num_threads()
    assert re.search(rf", {threads} threads?, load average \d+\.\d before$", stored["machine"])
    (answers,) = stored["tables"]["answers"]
    assert 0 <= answers["largest difference, of the largest output"] < 1e-2
    lines = stored["tables"]["ways"]
    assert len(lines) == 3 + len(KINDS) * (2 + 5) + 1
    assert all(0 < line["ms, fastest"] <= line["ms, median"] for line in lines)
    assert all(line["low, %"] <= line["overhead, %"] <= line["high, %"] for line in lines)
    record = read_record(quick / "forward-cost-quick.json")
    medians = {(line["way"], line["masks"]): line["ms, median"] for line in lines}
    entries = {entry.what: entry for entry in section_aside(record.target, [record]).entries}
    plain, switched = medians["plain forward", ""], medians["masked, with a switch", "half masks"]
    assert entries["1 image: plain forward pass"].mean == pytest.approx(plain, abs=5e-4)  # lines have microseconds
    # Both medians are rounded by half a microsecond at most; a quotient moves by their shares.
    added, share = (
        entries["1 image, half masks: overhead of a masked pass, a switch before each call"].mean,
        switched / plain,
    )
    assert added == pytest.approx(100 * (share - 1), abs=100 * share * 5e-4 * (1 / plain + 1 / switched) * 1.01)


def test_a_bank_that_answers_wrongly_is_refused_and_nothing_is_recorded(monkeypatch, tmp_path):
    negate_last_layer(monkeypatch)
    argv = ["forward-cost", "--quick", "--device", "cpu", "--out", str(tmp_path / "out")]
    with pytest.raises(WrongAnswerError, match=r"half, task 0: the bank's 'fc\.weight' is not W times the mask"):
        reproduce(parse_request(argv), " ".join(argv))
    assert list(tmp_path.iterdir()) == []
