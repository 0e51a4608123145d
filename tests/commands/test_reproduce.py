import json
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest
from supsup_methods.commands import reproduce, reproduction_requests
from supsup_methods.reporting import images
from supsup_methods.reproduction import targets
from supsup_methods.reproduction.findings import Findings, Row
from supsup_methods.reproduction.report import MARK


def asked(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["supsup-reproduce", *argv])
    with pytest.raises(SystemExit) as stop:
        reproduce.main()
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


def test_a_report_is_not_replaced_by_one_of_no_records(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("REPRODUCTION.md").write_text(f"{MARK}\nwhat was measured\n")
    code, _, err = asked(monkeypatch, capsys, "report", "--out", "reproductoin")
    assert code == 2
    assert "--out reproductoin: no record is in reproductoin/records to report" in err
    assert "what was measured" in Path("REPRODUCTION.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["REPRODUCTION.md"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (),
            "targets: none is named; choose from figure7, figure8, table2, tiny-table2, table3, table4, table5, table6, "
            "table7, table8, table9, figure10, figure11-left, figure11-right, tiny-figure11-right, forward-cost, "
            "asked-images, nns-recurring, nns-epsilon, reservoir-capacity, figure2, figure3, figure4, figure5, figure6, "
            "list, report",
        ),
        (("figure7", "list"), "targets figure7 list: list measures nothing; ask for it alone"),
        (("figure99",), "target figure99: not known; there are: figure7"),
        (("figure7", "--seeds", "0"), "--seeds 0: it should be 1 to 10000"),
        (("figure7", "--seeds", "x"), "--seeds x: it should be a whole number"),
        (
            ("figure7", "--rows", "PSP"),
            "--rows PSP: figure7 has no rows to choose from; leave it out, or ask for table2, ",
        ),
        (("table3", "figure3", "--rows", "PSP"), "--rows PSP: figure3 has no rows to choose from"),
        (
            ("table3", "--rows", "PSR"),
            "--rows PSR: no row of table3 holds this in its name; they are: SupSup, GNu, H, s = 100; ",
        ),
        (("table6", "table3", "--rows", "lower"), "--rows lower: no row of table3 holds this in its name"),
        (("table3", "--quick", "--tasks", "3"), "--tasks 3: --quick has a length of its own; leave one of them out"),
        (
            ("table3", "--epochs", "5"),
            "--epochs 5: not for table3; leave it out, or ask for table2, tiny-table2, figure11-right",
        ),
        (
            ("figure3", "--precision", "bfloat16"),
            "--precision bfloat16: not for figure3; leave it out, or ask for table2",
        ),
        (("table2", "--precision", "half"), "--precision half: "),
        (
            ("table3", "nns-recurring", "--tasks", "3"),
            "--tasks 3: not for nns-recurring; leave it out, or ask for table2, tiny-table2, table3, ",
        ),
        *(
            ((target, "--tasks", "3"), f"--tasks 3: not for {target}; leave it out, or ask for table2")
            for target in ("figure7", "figure8", "forward-cost", "nns-epsilon", "reservoir-capacity")
        ),
        (("figure7", "--device", "tpu"), "--device tpu: not a device"),
        (("figure7", "--out", "taken"), "--out taken: it is a file; choose another folder"),
        (("figure7", "--data-root", "nowhere/at/all/\0"), "error: "),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(argv, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "supsup_methods.training.execute", None
    )  # what is not refused fails, in place of running for hours
    (tmp_path / "taken").write_text("mine")
    code, _, err = asked(monkeypatch, capsys, *argv)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_without_the_libraries_of_figures_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "supsup_methods.reproduction.targets", None)
    code, _, err = asked(monkeypatch, capsys, "list")
    assert code == 2
    assert "pip install 'supsup-methods[plots]'" in err


def test_list_names_every_target(monkeypatch, capsys):
    code, out, _ = asked(monkeypatch, capsys, "list")
    assert code == 0
    assert all(f"{name}: " in out for name in (*targets.TARGETS, *targets.FIGURES))


def test_a_figure_measures_and_records_its_tables_once_and_is_drawn_from_them(monkeypatch, capsys, tmp_path):
    measured = []

    def measuring(name):
        def measure(bench):
            measured.append(name)
            figure = go.Figure(go.Scatter(x=[1], y=[2], name=f"of {name}"))
            return Findings((Row(f"row of {name}", (20.0,)),), {"accuracy": figure}, data="MNIST", seconds=3.0)

        return targets.Target(f"about {name}", measure, 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    monkeypatch.setattr(targets, "TARGETS", {name: measuring(name) for name in ("table2", "table3", "table4")})
    code, out, err = asked(monkeypatch, capsys, "figure3", "table3", "figure2", "--out", "here")
    assert (code, err) == (0, "")
    assert measured == ["table3", "table4", "table2"]
    records = tmp_path / "here" / "records"
    assert sorted(path.name for path in records.iterdir()) == [
        "figure2-right.html", "figure3-left.html", "figure3-right.html", "table2-accuracy.html", "table2.json",
        "table3-accuracy.html", "table3.json", "table4-accuracy.html", "table4.json",
    ]  # fmt: skip
    assert "of table4" in (records / "figure3-right.html").read_text()
    assert "figure2, left: SplitImageNet is measured by no target" in out
    assert (
        out.count("figures are HTML only, not PNG and SVG: no Chromium at BROWSER_PATH=/nowhere/chromium; correct it")
        == 1
    )
    assert asked(monkeypatch, capsys, "figure3", "--quick", "--out", "here")[0] == 0
    assert (records / "figure3-quick-left.html").exists()
    assert (records / "table3-quick.json").exists()


def test_every_row_that_is_chosen_has_a_record_of_its_own(monkeypatch, capsys, tmp_path):
    def measure(bench):
        figure = go.Figure(go.Scatter(x=[1], y=[2]))
        data = "MNIST-5k" if bench.data_root is None else "MNIST"
        return Findings((Row(f"{bench.row}, 10 tasks", (20.0,)),), {"accuracy": figure}, data=data, seconds=3.0)

    rows = ("PSP, c = 1", "PSP, c = 16", "BatchE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    monkeypatch.setattr(targets, "TARGETS", {"table3": targets.Target("about", measure, 1, rows=rows)})
    for options in (
        ("--data-root", "."),
        ("--data-root", ".", "--rows", "psp", "--tasks", "5"),
        ("--data-root", ".", "--rows", "PSP, c = 1"),
        ("--rows", "BatchE"),
        ("--quick", "--rows", "BatchE"),
    ):
        assert asked(monkeypatch, capsys, "table3", *options, "--out", "here")[0] == 0
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "here" / "records").glob("*.json")}
    assert {name: record["rows"][0]["what"] for name, record in records.items()} == {
        "table3.json": "None, 10 tasks",
        "table3-psp-c-1-5-tasks.json": "PSP, c = 1, 10 tasks",
        "table3-psp-c-16-5-tasks.json": "PSP, c = 16, 10 tasks",
        "table3-psp-c-1.json": "PSP, c = 1, 10 tasks",
        "table3-batche-mnist-5k.json": "BatchE, 10 tasks",
        "table3-batche-quick.json": "BatchE, 10 tasks",
    }
    assert len(list((tmp_path / "here" / "records").glob("*-accuracy.html"))) == len(records)


def test_images_are_written_beside_the_pages_where_there_is_a_chromium(monkeypatch, capsys, tmp_path):
    written = []

    def draw(figures):
        written.extend(figures)
        return [Path(f"{stem}.png") for stem in figures]

    def measure(bench):
        return Findings((), {"seeds": go.Figure()}, data="MNIST", seconds=3.0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "write_all_images", draw)
    monkeypatch.setattr(targets, "TARGETS", {"figure7": targets.Target("distance", measure, 1)})
    code, out, _ = asked(monkeypatch, capsys, "figure7", "--out", "here")
    assert code == 0
    assert [stem.as_posix() for stem in written] == ["here/records/figure7-seeds"]
    assert "written to here/records/figure7-seeds.png" in out


def test_ours_is_printed_beside_the_papers_and_recorded(monkeypatch, capsys, tmp_path):
    shown = []

    def measure(bench):
        shown.append(bench)
        return Findings((Row("median steps", (20.0, 22.0), "steps", "about 30"),), data="MNIST-5k", seconds=3.0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(targets, "TARGETS", {"figure7": targets.Target("distance", measure, 20)})
    code, out, _ = asked(monkeypatch, capsys, "figure7", "--quick", "--out", "here")
    assert code == 0
    assert "about 30" in out
    assert "21.00 ± 1.41 steps" in out
    assert "a quick, small version" in " ".join(out.split())
    (bench,) = shown
    assert (bench.seeds, bench.quick, bench.runs.as_posix()) == (2, True, "here/runs")
    assert json.loads((tmp_path / "here/records/figure7-quick.json").read_text())["rows"][0]["mean"] == 21.0
    asked(monkeypatch, capsys, "figure7", "--seeds", "3")
    assert shown[1].seeds == 3
    asked(monkeypatch, capsys, "figure7")
    assert shown[2].seeds == 20


def test_a_record_is_not_replaced_by_one_of_fewer_seeds(monkeypatch, capsys, tmp_path):
    shown = []

    def measure(bench):
        shown.append(bench.seeds)
        return Findings(
            (Row("steps", (1.0,) * bench.seeds),), data="MNIST", seconds=3.0, seeds=tuple(range(bench.seeds))
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        targets, "TARGETS", {name: targets.Target("steps", measure, 1) for name in ("figure7", "figure8")}
    )
    in_here = ("--data-root", ".", "--out", "here")
    assert asked(monkeypatch, capsys, "figure8", *in_here, "--seeds", "3")[0] == 0
    record = tmp_path / "here/records/figure8.json"
    before = record.read_bytes()
    code, _, err = asked(monkeypatch, capsys, "figure7", "figure8", *in_here, "--seeds", "2")
    assert code == 2
    assert "--seeds 2: here/records/figure8.json has 3, which would be lost; ask for 3 or more" in err
    assert record.read_bytes() == before
    assert asked(monkeypatch, capsys, "figure7", "figure8", *in_here)[0] == 0
    assert asked(monkeypatch, capsys, "figure8", *in_here, "--quick")[0] == 0
    assert asked(monkeypatch, capsys, "figure8", *in_here, "--seeds", "4")[0] == 0
    assert shown == [3, 1, 3, 1, 4], "nothing is measured before all is known to be recorded"


def test_a_stop_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("supsup_methods.training.execute", stopped)
    code, _, err = asked(monkeypatch, capsys, "figure8", "--quick", "--seeds", "1", "--out", "he re")
    assert code == 130
    assert "go on with: supsup-reproduce figure8 --quick --seeds 1 --out 'he re'" in err
    assert (tmp_path / "he re/runs/figure7-hopsupsup-quick-seed-0/recipe.json").exists()
    assert reproduction_requests.parse_request(["figure8"]).seeds is None
