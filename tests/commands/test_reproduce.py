import json
import sys

import pytest
from supsup_methods.commands import reproduce, reproduction_requests
from supsup_methods.reproduction import targets
from supsup_methods.reproduction.findings import Findings, Row


def asked(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["supsup-reproduce", *argv])
    with pytest.raises(SystemExit) as stop:
        reproduce.main()
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (),
            "targets: none is named; choose from figure7, figure8, table2, tiny-table2, table3, table4, table5, table6, "
            "table7, table8, table9, figure10, figure11-left, nns-recurring, nns-epsilon, reservoir-capacity, list, report",
        ),
        (("figure7", "list"), "targets figure7 list: list measures nothing; ask for it alone"),
        (("figure99",), "target figure99: not known; there are: figure7"),
        (("figure7", "--seeds", "0"), "--seeds 0: it should be 1 to 10000"),
        (("figure7", "--seeds", "x"), "--seeds x: it should be a whole number"),
        (("figure7", "--device", "tpu"), "--device tpu: not a device"),
        (("figure7", "--out", "taken"), "--out taken: it is a file; choose another folder"),
        (("figure7", "--data-root", "nowhere/at/all/\0"), "error: "),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(argv, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
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
    assert all(name in out for name in targets.TARGETS)


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


def test_a_stop_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("supsup_methods.commands.session.execute", stopped)
    code, _, err = asked(monkeypatch, capsys, "figure8", "--quick", "--seeds", "1")
    assert code == 130
    assert "go on with: supsup-reproduce figure8 --quick --seeds 1" in err
    assert (tmp_path / "reproduction/runs/figure7-hopsupsup-quick-seed-0/recipe.json").exists()
    assert reproduction_requests.parse_request(["figure8"]).seeds is None
