"""The tracker against a real MLflow store in a file."""

import pytest
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.recipe_files import to_json
from supsup_methods.recipes import RECIPES
from supsup_methods.tracking import Tracker

CHECKPOINT = Checkpoint(10, (TaskScore(0, 100, 90, 4, 3),), seconds=1.0)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs" / "demo-1").mkdir(parents=True)
    (tmp_path / "runs" / "demo-1" / "recipe.json").write_text(to_json(RECIPES["demo"]))
    return tmp_path / "runs"


def tracked(store, status):
    tracker = Tracker(RECIPES["demo"], store / "demo-1", store)
    tracker.begun(0)
    tracker.task_learned(1, 2.5)
    tracker.tested(CHECKPOINT)
    tracker.close(status)
    assert tracker.problem is None
    return (store / "demo-1" / "mlflow-run-id").read_text().strip()


@pytest.mark.filterwarnings("default")  # of what MLflow imports
def test_a_run_is_reported_and_a_resumed_one_goes_on_under_its_id(store):
    first = tracked(store, "KILLED")
    assert tracked(store, "FINISHED") == first
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("supsup").experiment_id])
    assert (run.info.run_id, run.info.status, run.info.run_name) == (first, "FINISHED", "demo-1")
    assert run.data.metrics == {"accuracy": 0.9, "task_inference_accuracy": 0.75, "train_seconds": 2.5}
    assert run.data.params == {"name": "demo", "tasks": "10", "seed": "0"}
    assert [entry.path for entry in client.list_artifacts(first)] == ["recipe.json"]
    assert run.info.artifact_uri.startswith((store / "mlflow-artifacts").as_uri())


@pytest.mark.filterwarnings("default")
def test_a_store_that_cannot_be_written_is_told_at_the_end(store):
    (store / "mlflow.db").mkdir()
    tracker = Tracker(RECIPES["demo"], store / "demo-1", store)
    tracker.tested(CHECKPOINT)
    tracker.close("FINISHED")
    assert tracker.problem is not None
    assert "unable to open database file" in tracker.problem
