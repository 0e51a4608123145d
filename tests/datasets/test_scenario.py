import itertools
import runpy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import DatasetError, Revealed, Scenario, draw_tree, scenario_for


@pytest.mark.parametrize(
    ("name", "given_in_training", "given_at_test", "wrong_task_is_wrong", "shared"),
    [
        ("GG", True, True, False, None),
        ("GNs", True, False, False, True),
        ("GNu", True, False, True, False),
        ("NNs", False, False, False, True),
    ],
)
def test_scenarios_are_those_of_table_1(name, given_in_training, given_at_test, wrong_task_is_wrong, shared):
    scenario = Scenario(name)
    assert scenario.task_given_in_training is given_in_training
    assert scenario.task_given_at_test is given_at_test
    assert scenario.wrong_task_is_wrong is wrong_task_is_wrong
    assert scenario.labels_shared is shared


PATHS = {
    (True, True, True): "GG",
    (True, True, False): "GG",
    (True, False, True): "GNs",
    (True, False, False): "GNu",
    (False, False, True): "NNs",
    (False, False, False): "NNu: labels that are new betray that the task is new.*; choose among GG, GNs, GNu, NNs",
    (False, True, True): "NG: a task that had no name in training cannot be given by its name at test",
    (False, True, False): "NG: a task that had no name",
}


@pytest.mark.parametrize("path", list(itertools.product([True, False], repeat=3)))
def test_every_path_of_the_tree_ends_as_in_figure_9(path):
    answers = dict(zip(("task_given_in_training", "task_given_at_test", "labels_shared"), path, strict=True))
    if len(PATHS[path]) > 3:
        with pytest.raises(DatasetError, match=PATHS[path]):
            scenario_for(**answers)
        return
    scenario = scenario_for(**answers)
    assert scenario.value == PATHS[path]
    assert scenario.task_given_in_training is answers["task_given_in_training"]
    assert scenario.task_given_at_test is answers["task_given_at_test"]
    assert scenario.labels_shared in (None, answers["labels_shared"])


def test_nnu_is_no_scenario():
    with pytest.raises(ValueError, match="NNu"):
        Scenario("NNu")


@pytest.mark.parametrize("scenario", list(Scenario))
def test_what_is_revealed_is_what_the_letters_say(scenario):
    in_training, at_test = scenario.revealed_in_training, scenario.revealed_at_test
    assert {Revealed.IMAGES, Revealed.LABELS} <= in_training
    assert (Revealed.TASK in in_training) is (scenario.value[0] == "G")
    assert (Revealed.TASK in at_test) is (scenario.value[1] == "G")
    assert Revealed.IMAGES in at_test
    assert Revealed.LABELS not in at_test


labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20)


@given(labels, st.integers(0, 2))
def test_a_prediction_is_right_as_table_1_says(images, true_task):
    predicted, wanted, answered = torch.tensor(images).unbind(1)
    for scenario in Scenario:
        given_task = torch.full_like(answered, true_task) if scenario is Scenario.GG else answered
        right = scenario.right(predicted, wanted, answered_task=given_task, true_task=true_task)
        for image, (guess, label, task) in enumerate(images):
            expected = guess == label and (scenario is not Scenario.GNu or task == true_task)
            assert bool(right[image]) is expected


def test_one_task_may_be_answered_for_all_images_or_none_at_all():
    predicted, wanted = torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0])
    for scenario in (Scenario.GNs, Scenario.GNu, Scenario.NNs):
        assert scenario.right(predicted, wanted, answered_task=2, true_task=2).tolist() == [True, True, False]
        assert scenario.right(predicted, wanted, answered_task=None, true_task=2).tolist() == [True, True, False]
    assert Scenario.GNu.right(predicted, wanted, answered_task=1, true_task=2).tolist() == [False] * 3
    assert Scenario.GNs.right(predicted, wanted, answered_task=1, true_task=2).tolist() == [True, True, False]


def test_a_scoring_that_cannot_be_meant_is_refused():
    predicted = torch.tensor([1, 2])
    with pytest.raises(DatasetError, match="answered_task=1: in GG task 0 is given"):
        Scenario.GG.right(predicted, predicted, answered_task=1, true_task=0)
    with pytest.raises(DatasetError, match=r"of shapes \(2,\) and \(1,\)"):
        Scenario.GNu.right(predicted, predicted[:1], answered_task=0, true_task=0)
    for answered in (torch.zeros(2, 1), torch.zeros(3), torch.zeros(1)):
        with pytest.raises(
            DatasetError, match=r"answered_task: of shape .* for 2 images; pass one task, or one for each"
        ):
            Scenario.GNu.right(predicted, predicted, answered_task=answered.long(), true_task=0)


TREE = """\
Is the task given in training?
├─ yes: Is the task given at test?
│       ├─ yes: GG: the label must be right under the given task
│       └─ no:  Do tasks share labels?
│               ├─ yes: GNs: the task is inferred; only the label must be right
│               └─ no:  GNu: the task is inferred; label and task must be right
└─ no:  Is the task given at test?
        ├─ yes: (NG, no scenario: a task that had no name in training cannot be given by its name at test)
        └─ no:  Do tasks share labels?
                ├─ yes: NNs: tasks are found and inferred; only the label must be right
                └─ no:  (NNu, no scenario: labels that are new betray that the task is new, so that the task is not hidden \
in training)"""


def test_the_tree_is_drawn():
    assert draw_tree() == TREE


def test_the_package_prints_the_tree(capsys):
    runpy.run_module("supsup_datasets", run_name="__main__")
    assert capsys.readouterr().out == TREE + "\n"
