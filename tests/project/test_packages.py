"""The packages as others get them: wheels that name version ranges, and a core that stands alone."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "datasets", "methods", "dashboard")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    built = {}
    for name in PACKAGES:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / name)]
        subprocess.run([*command, str(ROOT / "packages" / name)], check=True, capture_output=True, timeout=300)
        (built[name],) = (folder / name).glob("*.whl")
    return built


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_names_version_ranges_and_no_paths(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        (metadata,) = (entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA"))
        requirements = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist")
        assert any(entry.endswith(f"supsup_{name}/py.typed") for entry in wheel.namelist())
    for requirement in requirements:
        assert "@" not in requirement
        assert "file:" not in requirement
        assert re.search(r"[<>=]", requirement), f"{requirement} names no version"


def test_core_needs_only_what_it_promises(wheels):
    with zipfile.ZipFile(wheels["core"]) as wheel:
        (metadata,) = (entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA"))
        requirements = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist")
    always = [line for line in requirements if "extra ==" not in line]
    assert {re.split(r"[ (<>=]", line)[0] for line in requirements if line not in always} == {"numba"}
    assert {re.split(r"[ (<>=]", line)[0] for line in always} == {
        "constriction",
        "jaxtyping",
        "numpy",
        "safetensors",
        "torch",
    }


def imported_packages(folder: Path) -> set[str]:
    """Return the top-level packages that the sources under a folder import, standard library left out."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names


@pytest.mark.parametrize("name", PACKAGES)
def test_every_import_is_a_stated_dependency(name):
    folder = ROOT / "packages" / name
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    stated = list(project["dependencies"]) + [
        line for extra in project.get("optional-dependencies", {}).values() for line in extra
    ]
    names = {re.split(r"[\[<>= ]", line)[0].replace("-", "_") for line in stated} | {f"supsup_{name}"}
    modules = {"mlflow_skinny": "mlflow", "pillow": "PIL"}
    assert imported_packages(folder / "src") <= {modules.get(entry, entry) for entry in names}


WITHOUT_STORAGE = """
import sys
for missing in ("safetensors", "numpy", "constriction"):
    sys.modules[missing] = None
import torch
from supsup_core import FrozenNetwork, MaskBank, entropy, one_shot
net = FrozenNetwork(torch.nn.Linear(8, 6), seed=0)
bank = MaskBank(net)
for task in range(3):
    bank.append({"weight": torch.rand(6, 8) > 0.5})
print(one_shot(entropy, net, bank, torch.ones(1, 8)).task)
"""


def test_masks_and_search_run_where_storage_libraries_are_missing():
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_STORAGE], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() in {"0", "1", "2"}


TRAINING_IMPORTS = """
import sys
absent = ("tyro", "mlflow", "streamlit", "pydantic", "plotly", "torchvision", "mlxtend", "safetensors", "constriction", "numba")
for missing in absent:
    sys.modules[missing] = None
import supsup_methods.supsup, supsup_methods.evaluation, supsup_methods.recipes
"""


def test_training_runs_where_command_line_and_tracking_are_missing():
    process = subprocess.run([sys.executable, "-c", TRAINING_IMPORTS], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr


def test_no_source_file_is_long():
    for path in (ROOT / "packages").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 320, path
