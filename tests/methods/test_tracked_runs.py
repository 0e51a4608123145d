"""What the tracking store knows of runs: a real MLflow store in a file, real HTTP, and a server that is dead."""

import http.server
import json
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest
from supsup_methods import tracked_runs
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.recipe_files import to_json
from supsup_methods.recipes import RECIPES
from supsup_methods.run_listing import RunLine
from supsup_methods.tracked_runs import TrackedRun, TrackingServer, elsewhere, local_runs
from supsup_methods.tracker import Tracker
from supsup_methods.tracking import read_runs

DEMO = RECIPES["demo"]
MLFLOW_WARNS = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store as three runs left it: one beside it, done; one elsewhere, done; and one that ended before its first task."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)  # nobody's real server learns of these
        patched.setattr(
            "supsup_methods.tracker._PATIENCE_SECONDS", 300
        )  # a loaded machine takes its time to start MLflow
        yield filled(tmp_path_factory)


def filled(tmp_path_factory):
    parent = tmp_path_factory.mktemp("wo%20rk ?#[x]")  # as odd as a folder's name can be
    for path, learned, right, status in (
        (parent / "runs" / "demo-1", 1, 900, "FINISHED"),
        (parent / "elsewhere" / "mine", 10, 850, "FINISHED"),
        (parent / "elsewhere" / "ended", 0, 0, "KILLED"),
    ):
        path.mkdir(parents=True)
        (path / "recipe.json").write_text(to_json(DEMO))
        tracker = Tracker(DEMO, path, parent / "runs")
        tracker.begun(0)
        for task in range(learned):
            tracker.task_learned(task + 1, 2.5)
        if learned:
            tracker.tested(Checkpoint(learned, (TaskScore(0, 1000, right, 4, 3),), seconds=1.0))
        assert tracker.close(status) is None
    return parent / "runs"


def by_name(tracked):
    return {run.name: run for run in tracked}


def test_the_local_store_is_read_without_mlflow(store):
    tracked = local_runs(store)
    assert [run.name for run in tracked] == ["ended", "mine", "demo-1"], "the newest first"
    mine, ended = by_name(tracked)["mine"], by_name(tracked)["ended"]
    assert mine.path == str(store.parent / "elsewhere" / "mine")
    assert (mine.status, mine.recipe, mine.tasks, mine.seed) == ("FINISHED", "demo", 10, 0)
    assert (mine.learned, mine.accuracy, mine.task_inference_accuracy) == (10, 0.85, 0.75)
    assert mine.begun <= mine.ended <= datetime.now(UTC)
    assert (datetime.now(UTC) - mine.begun).total_seconds() < 600
    assert (ended.status, ended.learned, ended.accuracy) == ("KILLED", None, None)
    assert mine.tracking_id == (store.parent / "elsewhere" / "mine" / "mlflow-run-id").read_text().strip()


def test_reading_changes_nothing_of_the_store(store):
    before = (store / "mlflow.db").read_bytes()
    local_runs(store)
    assert (store / "mlflow.db").read_bytes() == before


def test_only_the_newest_are_told(store):
    assert [run.name for run in local_runs(store, most=2)] == ["ended", "mine"]


@MLFLOW_WARNS
def test_mlflow_itself_tells_the_same(store, monkeypatch):
    monkeypatch.chdir(store)
    server = TrackingServer("sqlite:///mlflow.db")
    assert list(answered(server).runs) == local_runs(store)


@MLFLOW_WARNS
def test_a_long_store_is_asked_for_page_by_page(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.setattr("supsup_methods.tracking._PAGE_RUNS", 1)
    assert [run["name"] for run in read_runs("sqlite:///mlflow.db", 1000)] == ["ended", "mine", "demo-1"]
    assert [run["name"] for run in read_runs("sqlite:///mlflow.db", 2)] == ["ended", "mine"]


def test_without_a_store_there_is_nothing(tmp_path):
    assert local_runs(tmp_path) == []
    assert local_runs(tmp_path / "nowhere") == []
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_is_being_made_is_empty(tmp_path):
    sqlite3.connect(tmp_path / "mlflow.db").close()
    assert local_runs(tmp_path) == []


def test_a_store_while_it_is_written(store):
    with closing(sqlite3.connect(store / "mlflow.db", timeout=1)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(local_runs(store)) == 3
        writer.rollback()


@pytest.mark.parametrize("content", [b"no database at all, but longer than its header would be" * 20, None])
def test_a_store_that_cannot_be_read_says_so(tmp_path, content):
    if content is None:
        (tmp_path / "mlflow.db").mkdir()
    else:
        (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(UsageError, match=r"mlflow.db: the tracking store cannot be read \(.*\); try again") as refused:
        local_runs(tmp_path)
    assert "\n" not in str(refused.value)


def test_runs_of_this_folder_are_not_elsewhere(store):
    tracked = local_runs(store)
    note = (store / "demo-1" / "mlflow-run-id").read_text().strip()
    here = RunLine("demo-1", "done", tracking_id=note)
    assert [run.name for run in elsewhere(tracked, [here], store, remote=False)] == ["ended", "mine"]
    # Deleted here: this machine's store still has it, and a server may mean another machine's folder of the same name.
    assert [run.name for run in elsewhere(tracked, [], store, remote=False)] == ["ended", "mine"]
    assert [run.name for run in elsewhere(tracked, [], store, remote=True)] == ["ended", "mine", "demo-1"]
    moved = RunLine("renamed", "done", tracking_id=note)
    assert [run.name for run in elsewhere(tracked, [moved], store, remote=True)] == ["ended", "mine"]


def answered(server, within=60.0):
    deadline = time.monotonic() + within
    while (answer := server.latest()).is_asked and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer


ENTRY = {"id": "a", "name": "far", "path": "/far/away", "status": "RUNNING", "start": 1_790_000_000_000, "end": None}
ENTRY |= {
    "parameters": {"name": "demo", "tasks": "10", "seed": "3"},
    "metrics": {"accuracy": (0.5, 4), "train_seconds": (2.0, 6)},
}
FAR = TrackedRun(
    "a", "far", "/far/away", "RUNNING", "demo", 10, 3, 6, 0.5, None, datetime.fromtimestamp(1_790_000_000, UTC), None
)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when a test says so."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def pass_seconds(self, seconds):
            self.now += seconds

    stopped = Clock()
    monkeypatch.setattr(tracked_runs, "time", stopped)
    return stopped


def test_a_server_is_asked_in_the_background_and_again_after_a_while(clock):
    questions = []

    def read(uri, most):
        questions.append((uri, most))
        return [ENTRY]

    server = TrackingServer("http://far", read, pause_seconds=10.0)
    assert answered(server).runs == (FAR,)
    clock.pass_seconds(9.9)
    assert server.latest() == answered(server)
    assert questions == [("http://far", 1000)], "not before the pause is over"
    clock.pass_seconds(0.2)
    assert server.latest().runs == (FAR,), "what was told last, while it is asked"
    answered(server)
    assert len(questions) == 2


def test_a_server_that_hangs_holds_nobody_up_and_is_told_of(clock):
    let_go = threading.Event()

    def read(uri, most):
        let_go.wait(60)
        return [ENTRY]

    server = TrackingServer("http://user:secret@far:5000", read, patience_seconds=5.0)
    first = server.latest()
    assert (first.is_asked, first.problem, first.runs) == (True, "", ())
    clock.pass_seconds(5.1)
    later = server.latest()
    assert not let_go.is_set(), "nobody waited for the server"
    assert later.problem == (
        "MLFLOW_TRACKING_URI http://far:5000: the server does not answer (no answer yet); start it, or unset the variable"
    )
    let_go.set()
    answer = answered(server)
    assert (answer.problem, answer.runs) == ("", (FAR,))


def test_a_server_that_fails_is_told_of_in_a_line_and_what_it_told_before_stays():
    answers = [[ENTRY]]

    def read(uri, most):
        if answers:
            return answers.pop()
        raise ConnectionError("refused\nat http://me:secret@far")

    server = TrackingServer("http://far", read, pause_seconds=0.0)
    deadline = time.monotonic() + 60
    while not (answer := server.latest()).problem and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answer.runs == (FAR,)
    assert "the server does not answer (ConnectionError: refused at http://far)" in answer.problem


class Mlflow(http.server.BaseHTTPRequestHandler):
    """As much of MLflow's REST interface as is asked for: two pages of one run each."""

    def do_GET(self):
        self.reply({"experiment": {"experiment_id": "7", "name": "supsup"}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["experiment_ids"] == ["7"]
        second = asked.get("page_token") == "more"
        info = {
            "run_id": "b" if second else "a",
            "run_name": "far",
            "status": "RUNNING",
            "start_time": 1_790_000_000_000,
        }
        data = {
            "params": [
                {"key": "tasks", "value": "10"},
                {"key": "name", "value": "demo"},
                {"key": "seed", "value": "3"},
            ],
            "metrics": [
                {"key": "accuracy", "value": 0.5, "step": 4, "timestamp": 1},
                {"key": "train_seconds", "value": 2.0, "step": 6, "timestamp": 1},
                {"key": "odd", "value": "NaN", "step": 9, "timestamp": 1},
            ],
            "tags": [{"key": "path", "value": "/far/away"}],
        }
        self.reply({"runs": [{"info": info, "data": data}], **({} if second else {"next_page_token": "more"})})

    def reply(self, content):
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mlflow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@MLFLOW_WARNS
def test_runs_come_over_http():
    with serving() as uri:
        answer = answered(TrackingServer(uri))
    assert answer.problem == ""
    assert [run.tracking_id for run in answer.runs] == ["a", "b"]
    assert answer.runs[0] == FAR


@MLFLOW_WARNS
def test_where_nobody_listens_it_says_so(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving() as uri:
        pass
    answer = answered(TrackingServer(uri))
    assert answer.runs == ()
    assert answer.problem.startswith(f"MLFLOW_TRACKING_URI {uri}: the server does not answer (MlflowException: ")
    assert "\n" not in answer.problem
