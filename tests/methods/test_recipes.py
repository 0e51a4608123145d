"""Every recipe that is written down can be run, and is found by its name."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from supsup_datasets import FileDataset, ImageDataset, LabelledFiles, LabelledImages, embedded_mnist
from supsup_datasets.cifar_files import CIFAR_NORMALIZATION
from supsup_datasets.file_images import Reading
from supsup_datasets.image_folder import IMAGENET_NORMALIZATION
from supsup_methods import recipes
from supsup_methods.assembly import build_problem, open_method, refuse_impossible
from supsup_methods.backbone_assembly import backbone_shapes
from supsup_methods.data_assembly import build_stream
from supsup_methods.experiment import Recipe, SplitCifar100, SplitImageFolder, SplitImageNet
from supsup_methods.recipe_files import checked, from_json, to_json
from supsup_methods.recipes import RECIPES


def written():
    """Return every recipe that a module of `recipes` holds."""
    modules = [
        importlib.import_module(f"{recipes.__name__}.{found.name}") for found in pkgutil.iter_modules(recipes.__path__)
    ]
    values = [value for module in modules for value in vars(module).values()]
    groups = [value for value in values if isinstance(value, tuple)] + [[value] for value in values]
    return [recipe for group in groups for recipe in group if isinstance(recipe, Recipe)]


def test_every_recipe_is_registered_under_its_own_name():
    assert {recipe.name: recipe for recipe in written()} == RECIPES
    assert len({id(recipe) for recipe in written()}) == len(RECIPES), "no two share a name"


@cache
def shaped_like_cifar100():
    parts = [
        LabelledImages(torch.zeros((100 * each, 3, 32, 32), dtype=torch.uint8), torch.arange(100 * each) % 100, 100)
        for each in (5, 1)
    ]
    return ImageDataset("black", *parts, CIFAR_NORMALIZATION)


@cache
def shaped_like_imagenet():
    """Return a list of files that are nowhere: what can be refused is refused before an image is read."""
    names = np.array([b"1.jpg"] * 1000)
    files = LabelledFiles(Path("nowhere"), tuple(f"n{number:08d}" for number in range(1000)), names, torch.arange(1000))
    return FileDataset("none", files, files, Reading(IMAGENET_NORMALIZATION))


def data_for(recipe):
    match recipe.stream:
        case SplitCifar100() | SplitImageFolder():
            return shaped_like_cifar100()
        case SplitImageNet():
            return shaped_like_imagenet()
        case _:
            return embedded_mnist()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_run(name, tmp_path):
    recipe = RECIPES[name]
    data = data_for(recipe)
    assert checked(recipe) == recipe
    assert from_json(to_json(recipe), "here") == recipe
    refuse_impossible(recipe, data)
    assert len(build_stream(recipe, data)) == recipe.tasks
    if backbone_shapes(recipe, data).num_bits < 2_000_000:
        opened = open_method(recipe, build_problem(recipe, data, torch.device("cpu")), tmp_path / "none", None)
        assert opened.method.tasks_learned == 0


def test_batche_tells_tasks_over_random_weights_and_is_told_them_over_trained_ones():
    """Table 7's numbers are those of a random W and the decay of the authors' code; Table 4's of a W that task 0 trained."""
    assert {
        (RECIPES[name].method.trunk, RECIPES[name].method.weight_decay)
        for name in ("table7-batche", "table7-batche-full-batch")
    } == {("random", 1e-4)}
    assert (RECIPES["table4-batche"].method.trunk, RECIPES["table4-batche"].method.weight_decay) == ("task-0", 0.0)
