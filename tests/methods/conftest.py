import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods.reproduction.bench import Bench
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute

from .test_running import Watcher


@pytest.fixture
def bench(tmp_path):
    carried, said = [], []

    def carry_out(recipe, path):
        carried.append((recipe.name, recipe.seed))
        folder = RunFolder(path)
        if not folder.holds_run:
            path.mkdir(parents=True)
            folder.begin(recipe, describe_environment(torch.device("cpu"), embedded_mnist(), None))
        execute(folder, recipe, embedded_mnist(), torch.device("cpu"), Watcher())

    bench = Bench(
        tmp_path / "runs", 2, False, None, lambda stream: embedded_mnist().digest, "cpu", carry_out, said.append
    )
    return bench, carried, said
