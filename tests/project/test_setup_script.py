"""scripts/setup.py where something is missing: one clear line, exit 2. Real processes, in a copy of the project."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A copy of what setup reads, with nothing installed."""
    folder = tmp_path / "project"
    for name in ("Makefile", "pyproject.toml", "poetry.lock", "poetry.toml", "scripts/setup.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for package in (ROOT / "packages").iterdir():
        (folder / "packages" / package.name).mkdir(parents=True)
        shutil.copy(package / "pyproject.toml", folder / "packages" / package.name)
    return folder


def make(project, *arguments, **changes):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=project,
        env={**environment, **changes},
        capture_output=True,
        text=True,
        timeout=300,
    )


def only_line(process):
    lines = [line for line in process.stderr.splitlines() if not line.startswith("make: ***")]
    assert process.returncode != 0
    assert len(lines) == 1, process.stderr
    return lines[0]


def test_help_needs_nothing(project):
    process = make(project, "help")
    assert process.returncode == 0
    for target in ("demo", "test", "lint", "help"):
        assert f"  {target} " in process.stdout
    assert make(project).stdout == process.stdout
    assert not (project / ".venv").exists()


def test_no_python_is_one_line(project):
    assert only_line(make(project, "setup", "PYTHON=nopython")) == (
        "setup: error: nopython is not on the PATH; install Python 3.11 or newer, or name it by make PYTHON=/path/to/python"
    )


def patched(project, patch):
    """Put code in front of the script's main, as no test can take a machine's Python or disk away."""
    script = project / "scripts" / "setup.py"
    text = script.read_text()
    script.write_text(
        text.replace('if __name__ == "__main__":', textwrap.dedent(patch) + '\nif __name__ == "__main__":')
    )


def test_an_old_python_is_one_line(project):
    patched(project, "sys.version_info = (3, 9, 18)\nsupported = lambda python: False")
    line = only_line(make(project, "setup", f"PYTHON={sys.executable}"))
    assert line.startswith("setup: error: python3 is version 3.9.18; Python 3.11 to 3.14 is needed")


def test_the_version_rule_is_what_the_project_file_says():
    scope = {"__name__": "setup", "__file__": str(ROOT / "scripts" / "setup.py")}
    exec((ROOT / "scripts" / "setup.py").read_text(), scope)  # noqa: S102 - our own script
    low, high = scope["OLDEST"], scope["NEWEST"]
    rule = f'requires-python = ">={low[0]}.{low[1]},!=3.14.1,<{high[0]}.{high[1] + 1}"'
    assert rule in (ROOT / "pyproject.toml").read_text()
    assert scope["supported"](sys.executable)


def test_a_full_disk_is_one_line(project):
    patched(
        project,
        """
        from collections import namedtuple
        shutil.disk_usage = lambda path: namedtuple("usage", "free")(1_500_000_000)
        """,
    )
    line = only_line(make(project, "setup", f"PYTHON={sys.executable}"))
    assert line.startswith("setup: error: 1.5 GB are free on the disk of ")
    assert line.endswith("setup needs about 9 GB: free some space")


def test_no_network_is_one_line(project):
    # An index on a port where nobody listens, and nothing else to fall back on.
    process = make(
        project,
        "setup",
        f"PYTHON={sys.executable}",
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_CONFIG_FILE=os.devnull,
        PIP_RETRIES="0",
        PIP_DEFAULT_TIMEOUT="5",
    )
    assert only_line(process) == (
        "setup: error: Poetry cannot be installed: the package index cannot be reached; check the network, or pip's index "
        "settings; everything it said is in .tools/setup.log"
    )


@pytest.fixture
def prepared(project):
    """A project that looks as after a set-up, and that fails if it is set up again."""
    patched(project, "def prepare(python): fail('set up again')")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True, timeout=120)
    code = "import runpy; m = runpy.run_path('scripts/setup.py'); print(m['fingerprint'](m['find_python']()), end='')"
    fingerprint = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    (project / ".venv" / ".supsup-setup").write_text(fingerprint.stdout)
    return project


def test_a_prepared_folder_starts_at_once(prepared):
    process = make(prepared, "setup", f"PYTHON={sys.executable}")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "change",
    [
        lambda project: (project / "poetry.lock").write_text("changed"),
        lambda project: (project / "packages" / "core" / "pyproject.toml").write_text("changed"),
        lambda project: (project / ".venv" / "bin" / "python").unlink(),
        lambda project: shutil.rmtree(project / ".venv"),
    ],
)
def test_whatever_changed_it_is_set_up_again(prepared, change):
    change(prepared)
    assert only_line(make(prepared, "setup", f"PYTHON={sys.executable}")) == "setup: error: set up again"


def test_two_calls_at_once_set_up_once(project):
    patched(
        project,
        """
        def prepare(python):
            import time
            with open("count", "a") as file:
                file.write("x")
            time.sleep(2)
            subprocess.check_call([python, "-m", "venv", "--without-pip", VENV])
        """,
    )
    calls = [
        subprocess.Popen(["make", "setup", f"PYTHON={sys.executable}"], cwd=project, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [call.wait(timeout=120) for call in calls] == [0, 0]
    assert (project / "count").read_text() == "x"
