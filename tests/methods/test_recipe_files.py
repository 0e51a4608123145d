import dataclasses
import json

import pytest
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.recipe_files import checked, from_json, to_json
from supsup_methods.recipes import RECIPES
from supsup_methods.supsup import SupSupSettings


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_every_recipe_is_valid_and_survives_json(recipe):
    assert checked(recipe) == recipe
    assert from_json(to_json(recipe), "test") == recipe


def test_the_demo_is_the_papers_experiment():
    demo = RECIPES["demo"]
    training = demo.method.training
    assert (demo.tasks, demo.backbone.hidden, demo.backbone.outputs) == (10, (300, 100), 100)
    assert (training.batches, training.batch_size, training.learning_rate) == (1000, 128, 1e-4)
    assert (demo.method.inference.objective, demo.method.inference.images_per_guess) == ("H", 1)
    assert (demo.evaluation.scenario, demo.evaluation.batch_size) == ("GNu", 128)


def recipe(**changes):
    return dataclasses.replace(RECIPES["demo"], **changes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (recipe(tasks=0), "--tasks 0: it should be greater than or equal to 1; choose another value"),
        (recipe(tasks=10**9), "--tasks 1000000000: it should be less than or equal to 1000000"),
        (recipe(seed=-1), "--seed -1"),
        (recipe(name="../elsewhere"), "--name ../elsewhere: it should be of letters, digits, "),
        (recipe(name="two\nlines"), "--name"),
        (recipe(name=""), "--name"),
        (recipe(backbone=FullyConnected(outputs=0)), "--backbone.outputs 0"),
        (recipe(backbone=FullyConnected(hidden=(300, 0))), "--backbone.hidden 0"),
        (
            recipe(method=SupSupSettings(training=MaskTraining(learning_rate=0.0))),
            "--method.training.learning-rate 0.0",
        ),
        (
            recipe(method=SupSupSettings(training=MaskTraining(learning_rate=float("nan")))),
            "--method.training.learning-rate nan",
        ),
        (
            recipe(evaluation=Evaluation(scenario="NNu")),
            "--evaluation.scenario NNu: it should be 'GG', 'GNs', 'GNu' or 'NNs'",
        ),
    ],
)
def test_a_value_out_of_bounds_is_named_as_its_option(bad, message):
    with pytest.raises(UsageError) as caught:
        checked(bad)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"tasks": 3}', "[]"])
def test_a_damaged_file_is_named(text):
    with pytest.raises(UsageError, match=r"recipe\.json"):
        from_json(text, "recipe.json")


def test_an_unknown_field_is_refused():
    content = json.loads(to_json(RECIPES["demo"])) | {"typo": 1}
    with pytest.raises(UsageError, match="typo"):
        from_json(json.dumps(content), "recipe.json")


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["demo"].tasks = 3
    assert isinstance(RECIPES["demo"], Recipe)
