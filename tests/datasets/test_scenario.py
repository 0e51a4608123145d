import pytest
from supsup_datasets import Scenario


@pytest.mark.parametrize(
    ("name", "given_in_training", "given_at_test", "wrong_task_is_wrong"),
    [("GG", True, True, False), ("GNs", True, False, False), ("GNu", True, False, True), ("NNs", False, False, False)],
)
def test_scenarios_are_those_of_table_1(name, given_in_training, given_at_test, wrong_task_is_wrong):
    scenario = Scenario(name)
    assert scenario.task_given_in_training is given_in_training
    assert scenario.task_given_at_test is given_at_test
    assert scenario.wrong_task_is_wrong is wrong_task_is_wrong


def test_nnu_is_no_scenario():
    with pytest.raises(ValueError, match="NNu"):
        Scenario("NNu")
