"""What the package's README shows must work as it stands there."""

import re
from pathlib import Path

import supsup_datasets

README = (Path(__file__).parents[2] / "packages" / "datasets" / "README.md").read_text(encoding="utf-8")


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example.replace("batches=1000", "batches=3"), "README.md", "exec"), scope)  # noqa: S102 - it is ours
    assert scope["batch"].images.shape == (64, 128, 1, 28, 28)


def test_the_tree_in_it_is_the_one_that_is_drawn():
    assert supsup_datasets.draw_tree() in README


def test_every_name_it_shows_exists():
    for name in re.findall(r"`([A-Za-z_0-9]+)\(", README):
        assert name in supsup_datasets.__all__, name
