import subprocess
import sys
import threading

import pytest
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import Environment, RunFolder, claim_run_path

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
    assert claim_run_path(tmp_path / "runs", "demo").name == "demo-1"
    (tmp_path / "runs" / "demo-2").mkdir()
    (tmp_path / "runs" / "demo-4").mkdir()
    assert claim_run_path(tmp_path / "runs", "demo").name == "demo-3"
    assert (tmp_path / "runs" / "demo-3").is_dir(), "it is claimed as it is named"


@pytest.mark.parametrize("left", ["lock", "environment.json", ".recipe.json.77.partial"])
def test_what_a_failed_start_left_is_no_obstacle(tmp_path, left):
    (tmp_path / left).write_text("")
    RunFolder(tmp_path).refuse_unless_new()


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("environment.json", "{}", "device"),
        ("environment.json", '{"device": 3}', "device"),
        ("progress.json", "{}", "train_seconds"),
        ("progress.json", '{"train_seconds": {"x": 1}, "checkpoints": []}', "train_seconds"),
        ("progress.json", '{"train_seconds": {}, "checkpoints": [{"scores": []}]}', "checkpoints.0.tasks_learned"),
        ("summary.json", "{}", "recipe"),
        ("recipe.json", "{}", "name"),
        ("recipe.json", "[]", "recipe.json"),
    ],
)
def test_json_of_the_wrong_shape_is_named(tmp_path, name, content, place):
    folder = started(tmp_path)
    (tmp_path / name).write_text(content)
    read = {
        "recipe.json": folder.recipe,
        "environment.json": folder.environment,
        "progress.json": folder.progress,
        "summary.json": folder.summary,
    }[name]
    with pytest.raises(UsageError, match=name) as caught:
        read()
    assert place in str(caught.value)
    made_again = name in ("progress.json", "summary.json")
    assert ("--resume --out" if made_again else "restore it from a copy") in str(caught.value)


def test_looking_whether_a_run_is_active_never_gets_in_the_way(tmp_path):
    folder = started(tmp_path)
    looking = threading.Event()

    def look():
        while not looking.is_set():
            assert folder.is_active in (True, False)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(200):
            with folder.locked():
                pass
    finally:
        looking.set()
        watcher.join()
