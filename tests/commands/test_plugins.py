"""A method and its recipe in a package of their own: installed, they run, stop, resume and answer as ours do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import environment, train

METHODS = "[supsup.methods]\nnearest-mean = nearest_mean:KIND\n"
RECIPES = "[supsup.recipes]\nnearest-mean = nearest_mean_recipes:RECIPES\n"
THEIR_RECIPES = """
from nearest_mean import NearestMeanSettings
from supsup_methods.experiment import Evaluation, Recipe

RECIPES = (Recipe("nearest-mean", tasks=10, method=NearestMeanSettings(), evaluation=Evaluation(checkpoints=(5,))),)
"""


@pytest.fixture
def installed(tmp_path):
    """Return a function that installs the package with these entry points, and its processes' environment."""

    def install(entry_points=METHODS + RECIPES):
        site = tmp_path / "site"
        about = site / "their_methods-2.5.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 2.5\n")
        (about / "entry_points.txt").write_text(entry_points)
        shutil.copy(Path(__file__).with_name("nearest_mean.py"), site)
        (site / "nearest_mean_recipes.py").write_text(THEIR_RECIPES)
        return environment(PYTHONPATH=str(site))

    return install


def python(code, cwd, env):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_it_has_runs_that_answer(tmp_path, installed):
    env = installed()
    done = train("nearest-mean", "--method.inference.images-per-guess", "8", "--out", "run", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads((tmp_path / "run/summary.json").read_bytes())
    assert (summary["method"], summary["tasks"], summary["versions"]["their-methods"]) == ("nearest-mean", 10, "2.5")
    assert [each["tasks_learned"] for each in summary["checkpoints"]] == [5, 10]
    assert summary["checkpoints"][-1]["task_inference_accuracy"] > 0.95
    assert summary["checkpoints"][-1]["accuracy"] > 0.7
    assert summary["bytes"]["contexts"] == 10 * 10 * 784 * 4
    again = train("--resume", "--out", "run", cwd=tmp_path, env=env)
    assert (again.returncode, again.stderr) == (0, "")
    code = "from supsup_methods.commands.evaluate import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", code, "run", "--bytes"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "313,600" in told.stdout
    asked = "from supsup_methods.runs import open_run; run = open_run('run'); print(type(run.method).__name__)"
    assert python(asked, tmp_path, env) == "NearestMean\n"


def test_processes_share_its_tasks_to_the_same_bits(tmp_path, installed):
    env = installed()
    for device, out in (("cpu", "one"), ("cpu,cpu", "two")):
        done = train("nearest-mean", "--tasks", "4", "--device", device, "--out", out, cwd=tmp_path, env=env)
        assert (done.returncode, done.stderr) == (0, "")
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / out / "bank").iterdir()} for out in ("one", "two")
    )
    assert one == two
    assert len(one) == 4


@pytest.mark.parametrize(
    ("entry_points", "message"),
    [
        (
            "[supsup.methods]\nx = nowhere:KIND\n",
            "supsup.methods x = nowhere:KIND: it cannot be imported (ModuleNotFoundError: ",
        ),
        (
            "[supsup.methods]\nx = nearest_mean:NearestMean\n",
            "nearest_mean:NearestMean: it is a type; name a MethodKind",
        ),
        (
            "[supsup.methods]\nx = supsup_methods.psp:KIND\n",
            "there is a method psp; choose another kind for its settings",
        ),
        (METHODS + "[supsup.recipes]\nx = nearest_mean:KIND\n", "it is a MethodKind; name a tuple of recipes"),
        (
            METHODS + RECIPES + "x = nearest_mean_recipes:RECIPES\n",
            "there is a recipe nearest-mean; choose another name",
        ),
        (RECIPES, "nearest-mean has the method NearestMeanSettings, which no entry point of supsup.methods names; "),
    ],
)
def test_what_does_not_fit_is_told_in_a_line_that_names_the_package(tmp_path, installed, entry_points, message):
    refused = train("nearest-mean", "--out", "run", cwd=tmp_path, env=installed(entry_points))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


PAGES = """
from streamlit.testing.v1 import AppTest

def page(name):
    import importlib

    import streamlit as st

    st.query_params["run"] = "nearest-mean-1"
    importlib.import_module(f"supsup_dashboard.pages.{name}").show()

for name in ("runs", "launch", "accuracy", "storage", "task_inference", "masks"):
    shown = AppTest.from_function(page, kwargs={"name": name}, default_timeout=60)
    if name == "launch":
        shown.session_state["recipe"] = "nearest-mean"
    shown.run()
    print(name, [each.message for each in shown.exception], [each.value for each in (*shown.error, *shown.warning)])
"""


def test_the_dashboard_shows_it(tmp_path, installed):
    env = installed()
    assert train("nearest-mean", "--tasks", "2", cwd=tmp_path, env=env).returncode == 0
    (tmp_path / "pages.py").write_text(PAGES)  # Streamlit reads the page's source from its file
    told = python("import pages", tmp_path, env)
    pages = ("runs", "launch", "accuracy", "storage", "task_inference", "masks")
    assert told.splitlines() == [f"{page} [] []" for page in pages]
