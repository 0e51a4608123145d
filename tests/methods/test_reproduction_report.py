import json
import re
from pathlib import Path

import pytest
from supsup_methods.errors import UsageError
from supsup_methods.reporting.images import NoImages
from supsup_methods.reproduction import report_figures
from supsup_methods.reproduction.findings import Findings, Row, write_findings
from supsup_methods.reproduction.ledger import RECORDS
from supsup_methods.reproduction.paper_numbers import paper_numbers
from supsup_methods.reproduction.report import MARK, report, stale, write_report

ROOT = Path(__file__).parents[2]


def recorded(folder, target, *rows, quick=False, part=()):
    found = Findings(tuple(rows), seconds=7200.0, machine="two cores", data="MNIST")
    write_findings(folder / RECORDS, target, found, quick=quick, part=part)


def cells(text, label):
    """Return the cells of the lines of a row, the paper's first."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {label} |"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 3]]


def test_without_records_every_number_of_the_paper_is_there_and_not_run(tmp_path):
    text = report(tmp_path, tmp_path)
    assert text.startswith(MARK)
    assert f"**0 reproduced, 0 deviate, {len(paper_numbers())} not run**, of {len(paper_numbers())} numbers" in text
    for number in paper_numbers():
        assert f"{number.accuracy_percent:.2f}" in text


def test_a_record_fills_its_row_and_says_how_far_off_it_is(tmp_path):
    label = "SupSup, GNu, H, s = 100"
    recorded(
        tmp_path,
        "table3",
        Row(f"{label}, 10 tasks", (93.0, 94.0), paper_value=93.65, tolerance=0.5),
        Row(f"{label}, 50 tasks", (90.0,), paper_value=93.68, tolerance=0.5),
    )
    text = report(tmp_path, tmp_path)
    paper, ours, verdict = cells(text, label)
    assert paper[2:4] == ["93.65", "93.68"]
    assert ours[2:4] == ["93.50 ± 0.71 (2)", "90.00 (1)"]
    assert verdict[2:5] == ["-0.15 reproduced", "-3.68 deviates", "not run"]
    assert f"**1 reproduced, 1 deviate, {len(paper_numbers()) - 2} not run**" in text
    assert re.search(r"^\| table3 \| 1 \| 1 \| 28 \| 2\.0 \| \d{4}-\d\d-\d\d \|$", text, flags=re.MULTILINE)


def test_numbers_of_one_run_that_stand_in_two_tables_are_told(tmp_path):
    label = "SupSup, GNu, H, s = 100"
    row = Row(f"{label}, 10 tasks", (93.0,), paper_value=93.65, tolerance=0.5)
    recorded(tmp_path, "table3", row, Row("PSP, GG, 10 tasks", (94.0,), paper_value=94.8, tolerance=2.0))
    assert " 0 of those that were measured are of rows that stand in two tables" in report(tmp_path, tmp_path)
    recorded(tmp_path, "table8", row)
    assert " 1 of those that were measured are of rows that stand in two tables" in report(tmp_path, tmp_path)


def test_it_says_where_each_row_comes_from_where_they_were_measured_apart(tmp_path):
    commit = r"commit ([0-9a-f]{12}\+?|unknown)\."
    recorded(tmp_path, "table3", Row("PSP, GG, 10 tasks", (94.0,)), Row("PSP, GG, 50 tasks", (94.0,)))
    assert re.search(rf"^MNIST, two cores, {commit}$", report(tmp_path, tmp_path), flags=re.MULTILINE)
    recorded(tmp_path, "table3", Row("BatchE, GG, 10 tasks", (94.0,)), part=("BatchE",))
    for row in ("PSP, GG", "BatchE, GG"):
        assert re.search(rf"^- {row}: MNIST, two cores, {commit}$", report(tmp_path, tmp_path), flags=re.MULTILINE)


def test_a_target_that_the_paper_has_no_numbers_of_is_listed_behind_the_tables(tmp_path):
    recorded(tmp_path, "nns-recurring", Row("masks allocated", (20.0,), "for 20 tasks"))
    assert "| masks allocated |  | 20.00 for 20 tasks (1) |  |" in report(tmp_path, tmp_path)


def test_quick_versions_are_left_out(tmp_path):
    recorded(tmp_path, "nns-recurring", Row("masks allocated", (20.0,)), quick=True)
    assert "masks allocated" not in report(tmp_path, tmp_path)


def test_what_deviates_is_explained_where_something_is_known(tmp_path):
    label = "Lower Bound, GG"
    recorded(tmp_path, "table8", Row(f"{label}, 10 tasks", (30.0,), paper_value=71.67, tolerance=2.0))
    assert f"- {label}: The paper does not say how its trunk starts" in report(tmp_path, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}', '{"rows": [{"what": "x"}]}'])
def test_what_is_no_record_is_refused_by_its_name(tmp_path, content):
    (tmp_path / RECORDS).mkdir()
    (tmp_path / RECORDS / "table3.json").write_text(content)
    with pytest.raises(
        UsageError,
        match=r"table3\.json: (it is no record|the record has no .*; restore it, or remove it)",
    ):
        report(tmp_path, tmp_path)


@pytest.mark.parametrize("mine", [b"mine\n", "für mich\n".encode("latin-1")])
def test_a_file_of_somebody_elses_is_not_overwritten(tmp_path, mine):
    path = tmp_path / "REPRODUCTION.md"
    path.write_bytes(mine)
    with pytest.raises(UsageError, match="it was not written by this command and is not overwritten; move it away"):
        write_report(tmp_path, path)
    assert path.read_bytes() == mine


def test_it_is_written_over_an_earlier_one(tmp_path):
    path = tmp_path / "REPRODUCTION.md"
    write_report(tmp_path, path)
    recorded(tmp_path, "nns-recurring", Row("masks allocated", (20.0,)))
    write_report(tmp_path, path)
    assert "masks allocated" in path.read_text()


@pytest.fixture
def drawn(monkeypatch):
    """In place of a Chromium: the names of the figures that it was asked for."""
    asked = []

    def draw(figures, formats):
        paths = [stem.with_name(f"{stem.name}.svg") for stem in figures]
        assert formats == ("svg",)
        for path, figure in zip(paths, figures.values(), strict=True):
            path.write_text(f"<svg>{len(figure.data)}</svg>")
        asked.extend(path.name for path in paths)
        return paths

    monkeypatch.setattr(report_figures, "write_all_images", draw)
    return asked


def curve(accuracy):
    return [Row(f"PSP, GG, {tasks} tasks", (accuracy,), paper_value=90.0, tolerance=2.0) for tasks in (10, 50)]


def test_figures_are_drawn_once_and_again_when_their_numbers_change(tmp_path, drawn):
    path, figure = tmp_path / "REPRODUCTION.md", tmp_path / "figures" / "table3-accuracy.svg"
    recorded(tmp_path, "table3", *curve(91.0))
    recorded(tmp_path, "nns-recurring", Row("masks allocated", (20.0,)))
    assert write_report(tmp_path, path) == [figure, path]
    assert drawn == ["table3-accuracy.svg"], "one number is a table's business"
    assert "](figures/table3-accuracy.svg)" in path.read_text()
    assert stale(tmp_path, path) == []
    assert write_report(tmp_path, path) == [path]
    recorded(tmp_path, "table3", *curve(92.0))
    assert stale(tmp_path, path) == ["REPRODUCTION.md", "table3-accuracy.svg"]
    write_report(tmp_path, path)
    assert drawn == 2 * ["table3-accuracy.svg"]
    assert stale(tmp_path, path) == []


def test_what_was_edited_by_hand_is_found(tmp_path, drawn):
    path, figure = tmp_path / "REPRODUCTION.md", tmp_path / "figures" / "table3-accuracy.svg"
    recorded(tmp_path, "table3", *curve(91.0))
    write_report(tmp_path, path)
    path.write_text(path.read_text().replace("91.00", "91.50"))
    figure.unlink()
    assert stale(tmp_path, path) == ["REPRODUCTION.md", "table3-accuracy.svg"]


def test_figures_without_a_record_are_removed_and_somebody_elses_are_kept(tmp_path, drawn):
    path, figures = tmp_path / "REPRODUCTION.md", tmp_path / "figures"
    recorded(tmp_path, "table3", *curve(91.0))
    write_report(tmp_path, path)
    (figures / "mine.svg").write_text("<svg/>")
    (tmp_path / RECORDS / "table3.json").unlink()
    assert stale(tmp_path, path) == ["REPRODUCTION.md", "table3-accuracy.svg"]
    write_report(tmp_path, path)
    assert [file.name for file in figures.iterdir()] == ["mine.svg"]
    (figures / "table3-accuracy.svg").write_text("mine")
    recorded(tmp_path, "table3", *curve(91.0))
    with pytest.raises(UsageError, match=r"table3-accuracy\.svg: it was not written by this command and is not overwr"):
        write_report(tmp_path, path)
    assert (figures / "table3-accuracy.svg").read_text() == "mine"


def test_without_a_chromium_the_report_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "REPRODUCTION.md"
    write_report(tmp_path, path)
    before = path.read_text()
    recorded(tmp_path, "table3", *curve(91.0))
    monkeypatch.setattr(report_figures, "write_all_images", lambda *_: NoImages("no Chromium found; install one"))
    with pytest.raises(UsageError, match="figures: 1 figures are to be drawn: no Chromium found; install one"):
        write_report(tmp_path, path)
    assert path.read_text() == before


def test_links_start_from_the_reports_folder(tmp_path):
    recorded(tmp_path / "my reproduction", "table3", *curve(91.0))
    assert "](my%20reproduction/figures/table3-accuracy.svg)" in report(tmp_path / "my reproduction", tmp_path)


def test_the_committed_report_and_its_figures_are_those_of_the_committed_records():
    assert stale(ROOT / "reproduction", ROOT / "REPRODUCTION.md") == []


def test_committed_records_say_where_they_come_from():
    records = [json.loads(path.read_text()) for path in (ROOT / "reproduction" / "records").glob("*.json")]
    assert records
    for record in records:
        assert all(record[name] for name in ("machine", "data", "commit", "seeds", "settings"))
