import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.queueing.jobs import JobQueue, queue
from supsup_methods.reproduction.findings import Findings, Row, write_findings
from supsup_methods.reproduction.targets import FIGURES, TARGETS

from .shown_figures import shown_figures

LABEL = "SupSup, GNu, H, s = 100"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


def recorded(here, target, *rows, quick=False, part=()):
    findings = Findings(tuple(rows), seconds=7200.0, machine="two cores", data="MNIST")
    return write_findings(here / "reproduction" / "records", target, findings, quick=quick, part=part)[0]


def reproduction_page():
    from supsup_dashboard.pages import reproduction

    reproduction.show()


def opened():
    page = AppTest.from_function(reproduction_page, default_timeout=60).run()
    assert not page.exception
    return page


def chosen(page, target):
    page.selectbox(key="reproduction-target").select(target).run()
    assert not page.exception


def test_without_records_every_number_is_not_run_and_it_says_what_to_do(here):
    page = opened()
    assert "poetry run supsup-reproduce table3" in page.info[0].value
    assert {metric.label: metric.value for metric in page.metric} == {
        "Reproduced": "0", "Deviate": "0", "Not run": "228", "Numbers of the paper": "228", "Hours of runs": "0.0",
    }  # fmt: skip
    options = page.selectbox(key="reproduction-target").options
    assert [option.partition(":")[0] for option in options] == [*FIGURES, *TARGETS]


def test_ours_stand_beside_the_papers_with_where_they_come_from(here):
    recorded(
        here,
        "table3",
        Row(f"{LABEL}, 10 tasks", (93.0, 95.0), paper_value=93.65, tolerance=0.5),
        Row(f"{LABEL}, 50 tasks", (90.0, 91.0), paper_value=93.68, tolerance=0.5),
    )
    page = opened()
    assert [metric.value for metric in page.metric] == ["1", "1", "226", "228", "2.0"]
    chosen(page, "table3")
    numbers = page.dataframe[1].value.set_index("number")
    first = numbers.loc[f"{LABEL}, 10 tasks"]
    assert (first["paper"], first["ours"], first["seeds"], first["status"]) == ("93.65", 94.0, 2, "reproduced")
    assert first["± std"] == pytest.approx(2**0.5)
    assert first["difference"] == pytest.approx(0.35)
    assert numbers.loc[f"{LABEL}, 50 tasks", "status"] == "deviates"
    assert numbers.loc["PSP, GG, 10 tasks", "status"] == "not run"
    assert "MNIST; two cores" in " ".join(caption.value for caption in page.caption)
    (figure,) = shown_figures(page)
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert (traces[LABEL]["x"], traces[LABEL]["y"]) == ([10, 50], [94.0, 90.5])


def test_numbers_to_take_along_name_their_unit(here, taken_along):
    recorded(here, "table3", Row(f"{LABEL}, 10 tasks", (93.0,), paper_value=93.65, tolerance=0.5))
    recorded(here, "nns-recurring", Row("masks allocated", (20.0,), "for 20 tasks"), Row("purity", (91.5,), "%"))
    page = opened()
    chosen(page, "table3")
    curve = taken_along["table3-accuracy.csv"]
    assert list(curve.columns) == ["row", "tasks", "accuracy_percent", "paper_percent"]
    assert curve.loc[0, "accuracy_percent"] == 93.0
    chosen(page, "nns-recurring")
    units = [taken_along[f"nns-recurring-values-{number}.csv"]["unit"].tolist() for number in (1, 2)]
    assert units == [["for 20 tasks"], ["%"]]


def test_the_target_is_as_it_was_after_a_look_at_another_page(here):
    page = AppTest.from_string(
        "import streamlit as st\n"
        "from supsup_dashboard.pages import reproduction\n"
        "if not st.session_state.get('elsewhere'): reproduction.show()\n",
        default_timeout=60,
    ).run()
    chosen(page, "table7")
    for elsewhere in (True, False):
        page.session_state["elsewhere"] = elsewhere
        page.run()
    assert page.selectbox(key="reproduction-target").value == "table7"


def test_a_figure_shows_the_tables_it_is_drawn_from_and_quick_numbers_apart(here):
    recorded(here, "table3", Row(f"{LABEL}, 10 tasks", (93.0,), paper_value=93.65, tolerance=0.5))
    recorded(here, "table4", Row("SupSup, GNu, H, s = 500, 2 tasks", (50.0,)), quick=True)
    page = opened()
    assert page.metric[0].value == "0"
    assert page.metric[1].value == "1"
    chosen(page, "figure3")
    assert [each.value for each in page.subheader] == ["figure3, left: table3", "figure3, right: table4"]
    assert len(page.get("plotly_chart")) == 2
    assert any("--quick" in expander.label for expander in page.expander)
    chosen(page, "figure2")
    assert "SplitImageNet is measured by no target" in page.info[0].value


def test_a_damaged_record_is_told_and_the_rest_is_shown(here):
    recorded(here, "table3", Row(f"{LABEL}, 10 tasks", (93.65,), paper_value=93.65, tolerance=0.5))
    (here / "reproduction" / "records" / "table4.json").write_text("[]")
    page = opened()
    assert "table4.json: it is no record" in page.error[0].value
    assert page.metric[0].value == "1"


def test_every_target_can_be_chosen(here):
    page = opened()
    for target in (*FIGURES, *TARGETS):
        chosen(page, target)


def test_measuring_adds_one_job_with_the_command_that_is_shown(here):
    page = opened()
    chosen(page, "table3")
    page.number_input[0].set_value(3).run()
    assert "supsup-reproduce table3 --device auto --out reproduction --data-root" in page.code[0].value
    page.button(key="measure").click().run()
    assert not page.exception
    (job,) = queue().jobs()
    root = str((here / "data").resolve())
    assert job.command == (
        "supsup-reproduce", "table3", "--device", "auto", "--out", "reproduction", "--data-root", root, "--seeds", "3",
    )  # fmt: skip
    assert (job.state, job.place.as_posix()) == ("waiting", "reproduction/records/table3.json")
    assert page.success[0].value == "table3 is in the queue."
    page.button(key="measure").click().run()
    assert "a job for it waits or runs already" in page.error[0].value
    assert len(queue().jobs()) == 1
    page.button(key=f"stop-reproduction-{job.number}").click().run()
    assert queue().jobs()[0].state == "cancelled"


def test_rows_can_be_measured_alone_and_stand_beside_those_of_other_records(here):
    recorded(here, "table3", Row(f"{LABEL}, 10 tasks", (93.0,), paper_value=93.65, tolerance=0.5))
    recorded(here, "table3", Row("PSP, GG, 10 tasks", (94.0,), paper_value=94.8, tolerance=2.0), part=("PSP",))
    page = opened()
    assert [metric.value for metric in page.metric] == ["1", "1", "226", "228", "4.0"]
    chosen(page, "table3")
    captions = [caption.value for caption in page.caption]
    assert any(caption.startswith("PSP, GG. Measured ") for caption in captions)
    assert any(caption.startswith(f"{LABEL}. Measured ") for caption in captions)
    page.selectbox(key="reproduction-row-table3").select("PSP, GG").run()
    assert page.code[0].value.endswith("--rows 'PSP, GG'")
    page.button(key="measure").click().run()
    (job,) = queue().jobs()
    assert (job.command[-2:], job.about) == (("--rows", "PSP, GG"), "table3, PSP, GG, reproduction")
    chosen(page, "figure7")
    assert not [each for each in page.selectbox if each.label == "Row"], "it has no rows"


def test_two_rows_of_a_target_and_the_small_version_wait_side_by_side_and_one_row_does_not_wait_twice(here):
    page = opened()
    chosen(page, "table3")
    for row in ("PSP, GG", LABEL, LABEL):
        page.selectbox(key="reproduction-row-table3").select(row).run()
        page.button(key="measure").click().run()
    record = recorded(here, "table3", Row(f"{LABEL}, 10 tasks", (93.0,)), part=(LABEL,))
    assert f"{record.relative_to(here)}: a job for it waits or runs already" in page.error[0].value
    page.checkbox(key="reproduction-quick").check().run()
    page.button(key="measure").click().run()
    records = [job.place.name for job in queue().jobs()]
    assert records == [f"{record.stem}-quick.json", record.name, "table3-psp-gg.json"]


def test_what_does_not_count_is_shown_apart(here):
    recorded(here, "table3", Row("PSP, GG, 2 tasks", (50.0,)), quick=True)
    recorded(here, "table3", Row("BatchE, GG, 2 tasks", (60.0,)), quick=True, part=("BatchE",))
    shipped = recorded(here, "table3", Row("PSP, GG, 10 tasks", (70.0,)), part=("MNIST-5k",))
    shipped.write_text(shipped.read_text().replace('"MNIST"', '"MNIST-5k"'))
    page = opened()
    assert page.metric[2].value == "228"
    chosen(page, "table3")
    assert [expander.label.partition(",")[0] for expander in page.expander[:2]] == [
        "The small version (--quick)", "On MNIST-5k",
    ]  # fmt: skip
    assert page.dataframe[2].value["ours"].tolist() == [60.0, 50.0]
    assert page.dataframe[3].value["ours"].tolist() == [70.0]


def test_the_end_of_the_log_of_a_job_is_shown(here):
    job = queue().submit(("supsup-reproduce", "table3", "--quick"), "table3", None, "cpu", "token")
    queue().submit(("supsup-train", "demo"), "demo", None, "cpu", "another")
    queue().log_path(job.number).write_text("table3-supsup-h-quick, seed 0: accuracy 91.00%\n")
    page = opened()
    assert "seed 0: accuracy 91.00%" in page.code[-1].value
    assert not any("demo" in caption.value for caption in page.caption)


def test_without_full_data_only_the_small_version_is_offered(here, monkeypatch):
    monkeypatch.delenv("SUPSUP_DATA_ROOT")
    page = opened()
    assert page.checkbox[0].value is True
    assert page.code[0].value.endswith("--quick")
    assert "--data-root" not in page.code[0].value
    page.checkbox[0].uncheck().run()
    assert "The paper's numbers need full data" in page.warning[0].value
    assert not page.button
    chosen(page, "forward-cost")
    assert not page.warning, "it learns from nothing"
    assert page.code[0].value.endswith("supsup-reproduce forward-cost --device auto --out reproduction")
    monkeypatch.setenv("SUPSUP_DATA_ROOT", "/nowhere")
    assert "SUPSUP_DATA_ROOT=/nowhere: there is no such folder" in opened().error[0].value


def test_a_job_that_ended_says_how(here):
    for number, status in enumerate((0, 130, 2)):
        job = queue().submit(("supsup-reproduce", "table3"), f"job {number}", None, "cpu", str(number))
        queue().note(job.number, f"state = 'ended', status = {status}", "state = 'waiting'")
    assert {expander.label for expander in opened().expander} >= {
        "job 0: done", "job 1: stopped", "job 2: failed",
    }  # fmt: skip
