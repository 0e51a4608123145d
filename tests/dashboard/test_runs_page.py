from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supsup_datasets import embedded_mnist
from supsup_methods.recipes import RECIPES
from supsup_methods.running import execute

from ..methods.test_running import CPU, RECIPE, Watcher, begin

APP = str(Path(__file__).parents[2] / "apps" / "dashboard.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened():
    page = AppTest.from_file(APP, default_timeout=60).run()
    assert not page.exception
    return page


def test_without_runs_it_says_how_to_start_one(here):
    page = opened()
    assert "poetry run supsup-train" in page.info[0].value


def test_it_shows_runs_and_the_accuracy_of_the_last(here):
    (here / "runs").mkdir()
    folder = begin(here / "runs" / "demo-1")
    execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())
    begin(here / "runs" / "demo-2")
    page = opened()
    table = page.dataframe[0].value.set_index("run")
    assert table.loc["demo-1", "status"] == "done"
    assert table.loc["demo-2", "status"] == "stopped"
    assert table.loc["demo-1", "accuracy"] == folder.progress().checkpoints[-1].accuracy
    assert "Nothing is tested yet" in page.info[0].value
    page.selectbox[0].select("demo-1").run()
    assert not page.exception
    assert len(page.get("plotly_chart")) == 1
    assert RECIPES["demo"].name == table.loc["demo-1", "recipe"]


def test_a_damaged_run_says_so(here):
    (here / "runs").mkdir()
    folder = begin(here / "runs" / "demo-1")
    (folder.path / "recipe.json").write_text("{")
    page = opened()
    assert page.dataframe[0].value["status"][0].startswith("damaged: ")
