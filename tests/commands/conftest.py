import pytest


@pytest.fixture(scope="package", autouse=True)
def shared_store(tmp_path_factory):
    """One tracking store for all processes of these tests: making a new one takes MLflow seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
        yield
