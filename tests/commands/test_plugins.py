"""A method and its recipe in a package of their own: installed, they run, stop, resume and answer as ours do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from supsup_methods.recipes import RECIPES as OURS

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
        (METHODS + "[supsup.recipes]\nx = nearest_mean:KIND\n", "there is a MethodKind in it; name a tuple of recipes"),
        (
            METHODS + RECIPES + "x = nearest_mean_recipes:RECIPES\n",
            "there is a recipe nearest-mean; choose another name",
        ),
        (RECIPES, "nearest-mean has the method NearestMeanSettings, which no entry point of supsup.methods names; "),
    ],
)
def test_what_is_no_method_or_recipe_is_told_in_a_line_that_names_the_package(
    tmp_path, installed, entry_points, message
):
    refused = train("nearest-mean", "--out", "run", cwd=tmp_path, env=installed(entry_points))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


CHANGED = [
    (
        'kind: Literal["nearest-mean"] = "nearest-mean"',
        'kind: str = "nearest-mean"',
        "its settings have no name; give them a field",
    ),
    (
        'kind: Literal["nearest-mean"] = "nearest-mean"',
        "kind: Nowhere = 1",
        "its settings have types that mean nothing (NameError: ",
    ),
    (
        "    training: EpochsATask = field(default_factory=EpochsATask)\n",
        "",
        "its settings do not say how long a task is trained; ",
    ),
    (
        "field(default_factory=EpochsATask)",
        "field(kw_only=True)",
        "its settings have no default for training; give it one",
    ),
    (
        "    inference: OfAllMeans",
        "    dtype: torch.Tensor | None = None\n    inference: OfAllMeans",
        "their-methods: NearestMeanSettings has a field that no recipe's file holds (",
    ),
    ("@dataclass(frozen=True)\nclass", "class", "its settings are no dataclass; make them one"),
    (
        "from supsup_methods.state_files",
        "from supsup_methods.experiment import Recipe\nfrom supsup_methods.state_files",
        "has to leave all that knows recipes, supsup_methods.experiment for example, to another module",
    ),
]


@pytest.mark.parametrize(("before", "after", "message"), CHANGED)
def test_what_is_wrong_with_a_method_is_told_in_a_line(tmp_path, installed, before, after, message):
    env = installed()
    module = tmp_path / "site" / "nearest_mean.py"
    source = "from __future__ import annotations\n" + module.read_text()
    assert before in source
    module.write_text(source.replace(before, after))
    refused = train("demo", "--out", "run", cwd=tmp_path, env=env)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: their-methods")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_breaks_its_bounds_is_told_as_it_came(tmp_path, installed):
    env = installed()
    recipes = tmp_path / "site" / "nearest_mean_recipes.py"
    recipes.write_text(recipes.read_text().replace("tasks=10", "tasks=-10"))
    refused = train("nearest-mean", cwd=tmp_path, env=env)
    assert refused.stderr.startswith("error: recipe nearest-mean, as it came: --tasks -10: ")


def test_its_recipes_may_change_ours_and_be_imported_first(tmp_path, installed):
    env = installed()
    recipes = tmp_path / "site" / "nearest_mean_recipes.py"
    changed = 'replace(RECIPES["demo"], name="nearest-mean", method=NearestMeanSettings())'
    recipes.write_text(
        "from dataclasses import replace\nfrom nearest_mean import NearestMeanSettings\n"
        f"from supsup_methods.recipes import RECIPES\nRECIPES = ({changed},)\n"
    )
    for first in ("nearest_mean_recipes", "nearest_mean", "supsup_methods.recipes", "supsup_methods.experiment"):
        code = f"import {first}; from supsup_methods.recipes import RECIPES; print(RECIPES['nearest-mean'].tasks, len(RECIPES))"
        tasks, recipes_there = python(code, tmp_path, env).split()
        assert (tasks, recipes_there) == ("10", str(len(OURS) + 1))


def test_a_run_is_resumed_by_the_version_that_began_it_and_by_no_other(tmp_path, installed):
    env = installed()
    assert train("nearest-mean", "--tasks", "2", "--out", "run", cwd=tmp_path, env=env).returncode == 0
    about = tmp_path / "site" / "their_methods-2.5.dist-info" / "METADATA"
    about.write_text(about.read_text().replace("2.5", "3.0"))
    refused = train("--resume", "--out", "run", cwd=tmp_path, env=env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--resume: their-methods is 3.0 here, and the run in run was started with 2.5" in refused.stderr
    gone = train("--resume", "--out", "run", cwd=tmp_path)
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "run/recipe.json: method nearest-mean: it is not known here; install the package that has it" in gone.stderr


def test_processes_need_a_method_that_can_learn_apart(tmp_path, installed):
    env = installed()
    module = tmp_path / "site" / "nearest_mean.py"
    module.write_text(
        module.read_text().replace("def learn_apart(", "def learn_alone(").replace(".learn_apart(", ".learn_alone(")
    )
    refused = train("nearest-mean", "--tasks", "2", "--device", "cpu,cpu", "--out", "run", cwd=tmp_path, env=env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "--device: nearest-mean offers no learn_apart, though its kind says so; name one device" in refused.stderr


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
