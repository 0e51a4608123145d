import dataclasses
import json
from pathlib import Path

import pytest
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES
from supsup_methods.reproduction import table2, vision_rows
from supsup_methods.reproduction.figures_7_and_8 import DISTANCES
from supsup_methods.reproduction.findings import Findings, Row, write_findings
from supsup_methods.reproduction.ledger import (
    Record,
    hours_of,
    ledger_of,
    read_record,
    read_records,
    section_aside,
)
from supsup_methods.reproduction.paper_numbers import paper_frontier, paper_numbers
from supsup_methods.reproduction.record_figures import curve_rows, drawings
from supsup_methods.reproduction.report import markdown
from supsup_methods.reproduction.tables import PANELS, ROWS, rows_like
from supsup_methods.reproduction.targets import FIGURES, TARGETS
from supsup_methods.task_guessing import OneShot

ROOT = Path(__file__).parents[2]


def recorded(folder, target, *rows, quick=False, tables=None):
    findings = Findings(tuple(rows), tables=tables or {}, seconds=7200.0, machine="two cores", data="MNIST")
    return read_record(write_findings(folder, target, findings, quick=quick)[0])


def section_of(record):
    return next(section for section in ledger_of([record]).sections if section.name == record.target)


def test_every_number_of_the_paper_is_in_the_ledger_once():
    ledger = ledger_of([])
    values = sorted(
        entry.paper_value for entries in (*(s.entries for s in ledger.sections), ledger.untouched) for entry in entries
    )
    assert values == sorted(number.accuracy_percent for number in paper_numbers())
    assert ledger.counts == {"not run": len(paper_numbers())}
    assert {entry.what.split(":")[0] for entry in ledger.untouched} == {"Figure 2, left"}


def test_table_2_is_compared_where_it_was_measured_and_counted_once(tmp_path):
    first = table2.TABLE2[0]
    record = recorded(tmp_path, "table2", *vision_rows._both(first, (77.0, 78.0), (65678.0, 65680.0), comparable=True))
    section = section_of(record)
    entry = section.entries[0]
    assert (entry.what, entry.paper_value, entry.mean, entry.seeds) == ("SupSup, c = 1: accuracy", 77.56, 77.5, 2)
    assert entry.status == "reproduced"
    assert section.counts == {"reproduced": 1, "not run": 17}
    assert ledger_of([record]).counts.total() == len(paper_numbers())
    assert section.entries[-1].what == "SupSup, c = 1: bytes", "what the paper's rows have no accuracy for comes last"
    assert "| SupSup, c = 1: accuracy | 77.56 | 77.50 ± 0.71 (2) | -0.06 reproduced |" in markdown(
        ledger_of([record]), ""
    )


def test_an_entry_has_all_that_its_record_has(tmp_path):
    label = "SupSup, GNu, H, s = 100, 10 tasks"
    record = recorded(tmp_path, "table3", Row(label, (93.0, 95.0), paper="93.65", paper_value=93.65, tolerance=0.5))
    section = section_of(record)
    entry = section.entries[0]
    assert (entry.row, entry.tasks, entry.paper) == ("SupSup, GNu, H, s = 100", 10, "93.65")
    assert (entry.ours, entry.mean, entry.std) == ((93.0, 95.0), 94.0, pytest.approx(2**0.5))
    assert (entry.difference, entry.status, entry.unit) == (pytest.approx(0.35), "reproduced", "%")
    assert (hours_of([record]), record.machine, record.data, record.quick) == (2.0, "two cores", "MNIST", False)
    assert (section.records, section.counts["not run"]) == ((record,), len(section.entries) - 1)


def test_a_target_measured_row_by_row_has_the_newest_of_each_number(tmp_path):
    first, second = "SupSup, GNu, H, s = 100, 10 tasks", "PSP, GG, 10 tasks"
    whole = recorded(tmp_path, "table3", Row(first, (93.0,)), Row(second, (90.0,)), Row("PSP, GG, 50 tasks", (89.0,)))
    whole = dataclasses.replace(whole, written="2026-01-01T00:00:00+00:00", tables={"more": [{"a": 1}]})
    alone = recorded(tmp_path, "table3", Row(second, (94.0,)))
    alone = dataclasses.replace(alone, written="2026-01-02T00:00:00+00:00", seeds=(7,))
    for records in ([whole, alone], [alone, whole]):
        (section,) = [section for section in ledger_of(records).sections if section.name == "table3"]
        assert [entry.mean for entry in section.entries if entry.ours] == [93.0, 94.0, 89.0]
        assert section.records == (whole, alone)
        assert (section.hours, section.measured, section.table("more")) == (4.0, "2026-01-02", [{"a": 1}])
        assert section.rows_of(whole) == ["SupSup, GNu, H, s = 100", "PSP, GG"], (
            "one of its numbers is still the newest"
        )
        assert section.rows_of(alone) == ["PSP, GG"]
    newer = dataclasses.replace(whole, written="2026-01-03T00:00:00+00:00")
    assert next(each for each in ledger_of([alone, newer]).sections if each.records).records == (newer,)


def test_a_number_from_more_seeds_does_not_give_way_to_a_newer_one_from_fewer(tmp_path):
    one, other = "SupSup, GNu, H, s = 100, 10 tasks", "PSP, GG, 10 tasks"
    three = dataclasses.replace(recorded(tmp_path, "table3", Row(other, (94.0, 94.5, 95.0))), written="2026-01-01")
    whole = dataclasses.replace(
        recorded(tmp_path, "table3", Row(one, (93.0,)), Row(other, (50.0,))), written="2026-01-02"
    )
    (section,) = [section for section in ledger_of([three, whole]).sections if section.name == "table3"]
    assert [entry.ours for entry in section.entries if entry.ours] == [(93.0,), (94.0, 94.5, 95.0)]


def test_records_of_a_part_have_names_of_their_own(tmp_path):
    names = [
        write_findings(tmp_path, "table2", Findings(()), quick=quick, part=part)[0].name
        for part, quick in (((), False), (("SupSup, c = 1", "5 tasks"), False), (("BatchE - Rand W",), True))
    ]
    assert names == ["table2.json", "table2-supsup-c-1-5-tasks.json", "table2-batche-rand-w-quick.json"]


def test_a_run_that_two_records_come_from_counts_once(tmp_path):
    record = recorded(tmp_path, "table3", Row("PSP, GG, 10 tasks", (90.0,)))
    by_h, by_g = (
        dataclasses.replace(record, written=f"2026-01-0{day}", rows={what: record.rows["PSP, GG, 10 tasks"]}, runs=runs)
        for day, what, runs in ((1, "by H", {"a-seed-0": 3600.0}), (2, "by G", {"a-seed-0": 3600.0, "b-seed-0": 60.0}))
    )
    assert hours_of([by_h, by_g]) == pytest.approx(1 + 1 / 60)
    again = dataclasses.replace(by_h, runs={"a-seed-0": 1800.0})
    assert hours_of([by_h, again]) == 1.5, "another machine's run of that name"
    assert hours_of([by_h, record]) == 3.0, "an older record tells the seconds of all its runs alone"
    copied = dataclasses.replace(by_h)
    (section,) = [section for section in ledger_of([by_h, copied]).sections if section.records]
    assert (len(section.records), section.rows_of(section.records[0])) == (1, ["by H"])


def test_what_was_measured_on_the_digits_that_ship_does_not_count(tmp_path):
    full = recorded(tmp_path, "table3", Row("PSP, GG, 10 tasks", (94.0,), paper_value=94.8, tolerance=2.0))
    shipped = dataclasses.replace(full, data="MNIST-5k", written="2099-01-01T00:00:00+00:00")
    assert section_of(full) == next(each for each in ledger_of([full, shipped]).sections if each.name == "table3")
    assert section_aside("table3", [shipped]).records == (shipped,)


def test_quick_records_are_read_and_are_not_in_the_ledger(tmp_path):
    record = recorded(tmp_path, "table3", Row("SupSup, GNu, H, s = 100, 2 tasks", (50.0,)), quick=True)
    assert section_of(dataclasses.replace(record, quick=False)).records
    assert not any(section.records for section in ledger_of([record]).sections)
    assert [entry.mean for entry in section_aside("table3", [record]).entries] == [50.0]


def test_a_damaged_record_is_told_and_the_others_are_read(tmp_path):
    recorded(tmp_path, "table3", Row("x", (1.0,)))
    (tmp_path / "table4.json").write_text("{")
    good, bad = read_records(tmp_path)
    assert isinstance(good, Record)
    assert isinstance(bad, UsageError)
    assert "table4.json: it is no record" in str(bad)
    assert list(read_records(tmp_path / "nowhere")) == []


def test_every_committed_record_has_a_figure_that_is_drawn_again():
    records = list(read_records(ROOT / "reproduction" / "records"))
    assert records
    for section in ledger_of(records).sections:
        drawn = drawings(section)
        assert bool(drawn) == bool(section.records)
        assert len({each.name for each in drawn}) == len(drawn)
        for each in drawn:
            assert len(each.rows)
            assert each.figure.data


def test_what_was_not_run_has_no_figure():
    assert [drawings(section) for section in ledger_of([]).sections] == [[]] * 8


def test_a_table_is_drawn_with_the_papers_values_of_rows_that_are_not_run(tmp_path):
    record = recorded(tmp_path, "table3", Row("PSP, GG, 10 tasks", (94.0, 95.0), paper_value=94.8, tolerance=2.0))
    (drawing,) = drawings(section_of(record))
    curves = {trace.name: trace for trace in drawing.figure.data}
    assert (list(curves["PSP, GG"].x), list(curves["PSP, GG"].y)) == ([10], [94.5])
    paper = {
        number.tasks: number.accuracy_percent
        for number in paper_numbers()
        if (number.table, number.method) == ("3", "PSP")
    }
    assert dict(zip(curves["PSP, GG, paper"].x, curves["PSP, GG, paper"].y, strict=True)) == paper
    assert len([name for name in curves if name.endswith("paper")]) == 5


def test_a_table_with_one_checkpoint_is_drawn_as_points(tmp_path):
    record = recorded(tmp_path, "table6", Row("PSP, GG, 36 tasks", (95.0,), paper_value=95.87, tolerance=2.0))
    (drawing,) = drawings(section_of(record))
    assert drawing.about == "Accuracy in percent of each row of table6, beside the paper's."
    paper, ours = drawing.figure.data
    assert dict(zip(paper.y, paper.x, strict=True))["PSP, GG"] == 95.87
    assert dict(zip(ours.y, ours.x, strict=True))["PSP, GG"] == 95.0


def test_the_frontier_of_table_2_pairs_accuracy_and_bytes(tmp_path):
    rows = (Row("SupSup, c = 1: accuracy", (77.0,)), Row("SupSup, c = 1: bytes", (65678.0,), "bytes"))
    (drawing,) = drawings(section_of(recorded(tmp_path, "table2", *rows)))
    assert drawing.rows.to_dict("records") == [
        {"row": "SupSup, c = 1", "curve": "SupSup", "bytes": 65678.0, "accuracy": 77.0}
    ]
    supsup = next(trace for trace in drawing.figure.data if trace.name == "paper: SupSup")
    assert list(supsup.x) == [408432, 508432, 695592, 1035792, 1630032, 2487472]


def test_figure_7_is_drawn_from_the_distances_of_its_record(tmp_path):
    rows = [{"layer": "0", "step": 1, "low": 1.0, "median": 5.0, "high": 9.0}]
    recovered = Row("x: masks recovered to the last unit", (90.0,))
    distance, values = drawings(section_of(recorded(tmp_path, "figure7", recovered, tables={DISTANCES: rows})))
    assert (distance.rows.to_dict("records"), distance.points) == (rows, False)
    assert [list(trace.y) for trace in distance.figure.data] == [[9.0], [1.0], [5.0]]
    assert values.points


def test_the_frontier_of_figure_11_right_has_no_paper_behind_it(tmp_path):
    rows = (Row("SupSup, c = 1: accuracy", (77.0,)), Row("SupSup, c = 1: bytes", (65678.0,), "bytes"))
    (drawing,) = drawings(section_of(recorded(tmp_path, "figure11-right", *rows)))
    assert [trace.name for trace in drawing.figure.data] == ["SupSup"]


def test_figure_11_and_epsilon_are_drawn_over_their_own_axes(tmp_path):
    shares = (Row("γ = 1/36, One-Shot: accuracy", (70.0,)), Row("γ = 0.5: accuracy", (96.0,)))
    (gamma,) = drawings(section_of(recorded(tmp_path, "figure11-left", *shares)))
    assert gamma.rows["share"].tolist() == pytest.approx([1 / 36, 0.5])
    rows = (
        Row("ε = 1/8: masks allocated", (20.0,), "for 20 tasks"),
        Row("ε = 1/32: masks allocated", (1.0,), "for 20 tasks"),
    )
    masks, *_ = drawings(section_of(recorded(tmp_path, "nns-epsilon", *rows)))
    assert masks.rows.to_dict("list") == {"epsilon": [1 / 32, 1 / 8], "masks": [1.0, 20.0], "tasks": [20, 20]}


def test_figure_10_has_a_drawing_for_each_network(tmp_path):
    rows = [
        Row(f"{network}, {way}, {tasks} tasks", (value,))
        for network, value in (("LeNet", 80.0), ("FC", 90.0))
        for way in ("given", "H, b = 1")
        for tasks in (10, 50)
    ]
    lenet, fc = drawings(section_of(recorded(tmp_path, "figure10", *rows)))
    assert (lenet.name, fc.name) == ("lenet", "fc")
    assert fc.rows["row"].tolist() == ["given", "given", "H, b = 1", "H, b = 1"]
    assert fc.rows["accuracy"].tolist() == [90.0] * 4
    assert [trace.name for trace in fc.figure.data if trace.showlegend] == ["given", "H, b = 1"]


def test_figure_8_is_drawn_seed_by_seed(tmp_path):
    rows = (
        Row("Eq. 7 as in the paper: accuracy with the recovered masks", (90.0, 98.0)),
        Row("Eq. 7 as in the paper: accuracy with the right masks", (98.5, 98.7)),
    )
    (drawing,) = drawings(section_of(recorded(tmp_path, "figure8", *rows)))
    assert drawing.rows.to_dict("list") == {
        "seed": [0, 1], "recovered": pytest.approx([0.9, 0.98]), "right": pytest.approx([0.985, 0.987]),
    }  # fmt: skip


def test_capacity_is_drawn_from_the_records_table(tmp_path):
    lines = [{"units": 32, "masks": "random", "rule": "hebb", "stored": 4, "recalled": 0.5}]
    record = recorded(tmp_path, "reservoir-capacity", Row("held", (3.0,), "masks"), tables={"recalled": lines})
    recall, values = drawings(section_of(record))
    assert recall.rows.to_dict("records") == lines
    assert values.rows["value"].tolist() == [3.0]


def test_numbers_in_several_units_have_a_figure_each(tmp_path):
    record = recorded(tmp_path, "figure7", Row("recovered", (80.0, 90.0)), Row("median", (17.0,), "steps", "about 30"))
    percent, steps = drawings(section_of(record))
    assert percent.figure.layout.xaxis.title.text == "%"
    assert steps.figure.layout.xaxis.title.text == "steps"


def test_names_of_curves_are_taken_apart():
    record = json.loads(
        '{"what": "a, b = 1, 10 tasks", "ours": [1.0], "paper": "", "mean": 1.0, "std": null, "unit": "%"}'
    )
    row = {**record, "difference": None, "status": ""}
    entries = section_aside("t", [Record("t", False, {"x": row}, {}, "", "", None, 0.0, "", ())]).entries
    entry = dataclasses.replace(entries[0], what=record["what"])
    assert curve_rows([entry])[["row", "tasks"]].to_numpy().tolist() == [["a, b = 1", 10]]
    assert curve_rows([dataclasses.replace(entry, what="no curve")]).empty


def test_the_frontiers_of_the_paper_are_figure_2():
    assert len(paper_frontier("2")) == 17
    left = paper_frontier("figure 2, left")
    assert left["bytes"].max() == 10_222_810_000
    assert set(left["row"]) == {"Upper Bound", "SupSup", "BatchE"}


def test_a_recipe_is_like_the_rows_of_its_stream_network_method_scenario_and_objective():
    assert {table: [row.label for row in rows] for table, rows in rows_like(RECIPES["demo"]).items()} == {
        "3": ["SupSup, GNu, H, s = 100"],
        "8": ["SupSup, GNu, H, s = 100"],
    }
    by_g = dataclasses.replace(
        RECIPES["demo"], method=dataclasses.replace(RECIPES["demo"].method, inference=OneShot(objective="G"))
    )
    assert [row.label for row in rows_like(by_g)["3"]] == ["SupSup, GNu, G, s = 100"]
    assert list(rows_like(RECIPES["table5-nns"])) == ["5"]
    assert rows_like(RECIPES["figure7-hopsupsup"]) == {}
    for table, rows in ROWS.items():
        for row in rows:
            if row.inference is None:
                assert row.label in [each.label for each in rows_like(RECIPES[row.recipe])[table]]


def test_figures_2_to_6_are_drawn_from_every_table():
    assert list(FIGURES) == [f"figure{number}" for number in range(2, 7)]
    parts = {part: f"{name}, {panel}" for name, figure in FIGURES.items() for panel, part in figure.panels.items()}
    assert set(parts) == {f"table{number}" for number in range(2, 10)}
    assert set(parts) <= set(TARGETS)
    assert not set(FIGURES) & set(TARGETS)
    for number, panel in PANELS.items():  # the paper's own words for where each table is drawn
        name, _, side = panel.partition(", ")
        assert parts[f"table{number}"] == f"{name.lower().replace(' ', '')}, {side or 'curves'}"
