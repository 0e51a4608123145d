import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def shared_store(tmp_path_factory):
    """One tracking store for all processes of these tests: making a new one takes MLflow seconds."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    yield
    del os.environ["MLFLOW_TRACKING_URI"]
