import subprocess
import sys

import pytest
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import Environment, RunFolder, new_run_path

ENVIRONMENT = Environment("cpu", 2, "data", "0" * 64, None, {"torch": "1"})


def started(path):
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    folder.begin(RECIPES["demo"], ENVIRONMENT)
    return folder


def test_what_was_begun_is_read_back(tmp_path):
    folder = started(tmp_path)
    assert folder.recipe() == RECIPES["demo"]
    assert folder.environment() == ENVIRONMENT
    assert folder.progress().checkpoints == []
    assert folder.holds_run
    assert not folder.is_done


def test_a_taken_place_is_refused(tmp_path):
    started(tmp_path / "run")
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    for name, message in (("run", "it holds another run"), ("file", "it is a file"), ("other", "it is not empty")):
        with pytest.raises(UsageError, match=message):
            RunFolder(tmp_path / name).refuse_unless_new()
    RunFolder(tmp_path / "new").refuse_unless_new()
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty").refuse_unless_new()


def test_only_one_process_works_on_a_run(tmp_path):
    folder = started(tmp_path)
    assert not folder.is_active
    code = (
        "import sys; from pathlib import Path; from supsup_methods.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})).locked():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        assert folder.is_active
        with pytest.raises(UsageError, match="another process works on this run"), folder.locked():
            pass
        other.kill()
    assert not folder.is_active, "a killed process holds nothing"
    with folder.locked():
        pass


@pytest.mark.parametrize("name", ["recipe.json", "environment.json", "progress.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    folder = started(tmp_path)
    (tmp_path / name).write_bytes(content)
    read = {"recipe.json": folder.recipe, "environment.json": folder.environment, "progress.json": folder.progress}[
        name
    ]
    with pytest.raises(UsageError, match=name):
        read()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        RunFolder(tmp_path).recipe()


def test_new_runs_are_numbered(tmp_path):
    assert new_run_path(tmp_path / "runs", "demo").name == "demo-1"
    (tmp_path / "demo-1").mkdir()
    (tmp_path / "demo-3").mkdir()
    assert new_run_path(tmp_path, "demo").name == "demo-2"
