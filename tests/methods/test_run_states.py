import signal
import subprocess
import sys

import pytest
from supsup_methods import run_states
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import LOCK, RunFolder
from supsup_methods.run_lock import Holder, holder_of
from supsup_methods.run_states import state_of, stop_run, why_failed

from .test_running import begin

WORK = (
    "import signal, sys, time; from pathlib import Path; from supsup_methods.run_folder import RunFolder\n"
    "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
    "with RunFolder(Path({path!r})).locked():\n"
    "    print('locked', flush=True)\n"
    "    {then}\n"
)


def working(folder, then="time.sleep(600)"):
    """Start a process that holds the run's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK.format(path=str(folder.path), then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"locked\n"
    return process


@pytest.fixture
def folder(tmp_path):
    return begin(tmp_path / "demo-1")


def test_a_run_that_nobody_took_up_is_stopped(folder):
    assert state_of(folder) == "stopped"
    assert not stop_run(folder)


def test_a_living_process_runs_it_and_stops_when_asked(folder):
    with working(folder) as process:
        assert state_of(folder) == "running"
        assert holder_of(folder.path / LOCK).pid == process.pid
        assert stop_run(folder)
        process.wait(30)
    assert state_of(folder) == "stopped"
    assert why_failed(folder) == ""
    assert not stop_run(folder)


def test_a_killed_process_died(folder):
    with working(folder) as process:
        process.kill()
    assert state_of(folder) == "died"
    assert not stop_run(folder)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_stopped_run(folder, way):
    with working(folder) as process:
        process.send_signal(way)
    assert state_of(folder) == "stopped"


def test_an_error_leaves_a_failed_run_and_its_line(folder):
    with working(folder, then="raise OSError(28, 'No space left on device')") as process:
        process.wait(30)
    assert state_of(folder) == "failed"
    assert why_failed(folder) == "OSError: [Errno 28] No space left on device"


def test_a_long_error_is_cut_and_the_note_is_replaced_whole(folder):
    with pytest.raises(ValueError, match="x"), folder.locked():
        raise ValueError("x\n" * 5000)
    assert len(why_failed(folder)) == 300
    with pytest.raises(KeyboardInterrupt), folder.locked():
        raise KeyboardInterrupt
    assert state_of(folder) == "stopped"
    with folder.locked():
        assert state_of(folder) == "running", "the note of the process before is gone"


def test_a_long_message_in_another_script_leaves_a_note_that_can_be_read_and_written_over(folder):
    with pytest.raises(OSError, match="数据"), folder.locked():
        raise OSError("数据" * 200)
    assert why_failed(folder).startswith("OSError: 数据数据")
    size = (folder.path / LOCK).stat().st_size
    with folder.locked():
        assert holder_of(folder.path / LOCK).ended == ""
    assert holder_of(folder.path / LOCK).ended == "finished"
    assert (folder.path / LOCK).stat().st_size == size == 1024


def test_results_count_more_than_how_the_last_process_ended(folder):
    with working(folder) as process:
        process.kill()
    (folder.path / "summary.json").write_text("{}")
    assert state_of(folder) == "done"


def test_a_lock_without_a_note_is_that_of_an_earlier_version(folder):
    (folder.path / LOCK).write_bytes(b"")
    assert state_of(folder) == "stopped"
    (folder.path / LOCK).write_bytes(b'{"pid": 1')
    assert state_of(folder) == "stopped"


def test_a_process_elsewhere_is_not_stopped_here(folder, monkeypatch):
    monkeypatch.setattr(run_states, "holder_of", lambda path: Holder(1, "another.host"))
    with folder.locked(), pytest.raises(UsageError, match=r"runs on another\.host; stop it there"):
        stop_run(folder)


def test_the_recipe_is_untouched(folder):
    with folder.locked():
        pass
    assert RunFolder(folder.path).recipe().name == RECIPES["demo"].name
