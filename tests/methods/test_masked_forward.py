"""Masked forward passes on a small network: each check of them can fail."""

from dataclasses import replace

import pytest
import torch
from supsup_core import MaskBank
from supsup_methods.masked_forward.answers import (
    TOLERANCE,
    WrongAnswerError,
    check_answers,
    check_weights,
    multiplied_by_hand,
)
from supsup_methods.masked_forward.drawn_tasks import Setting, draw_tasks, frozen_network, random_images
from supsup_methods.masked_forward.measuring import timing_of
from supsup_methods.masked_forward.ways import Way, masked_ways


@pytest.fixture(scope="module", params=["half", "sparse"])
def small(request):
    """A network, the ways to call it masked, and the answers of modules that were multiplied by hand."""
    setting = Setting("resnet18", 32, 1, torch.device("cpu"))
    net = frozen_network(setting)
    images = random_images(setting)
    with torch.inference_mode():
        tasks = draw_tasks(net, request.param, setting.layout)
        by_hand = {(request.param, task): multiplied_by_hand(net, tasks, task)(images) for task in range(2)}
        ways = masked_ways(net, tasks, images, setting.layout)
    return net, tasks, ways, by_hand


def test_a_bank_that_lost_a_bit_is_found(small):
    net, tasks, _, _ = small
    check_weights(net, tasks)
    rows = tasks.bank.rows.clone()
    rows[1, 12_345] ^= 4
    bank = MaskBank(net)
    statistics_of_tasks = tasks.bank.buffers
    bank.append_rows(rows, statistics_of_tasks)
    with pytest.raises(WrongAnswerError, match=f"{tasks.kind}, task 1: the bank's 'layer"):
        check_weights(net, replace(tasks, bank=bank))


def test_a_way_that_answers_for_another_task_is_found(small):
    _, tasks, ways, by_hand = small
    assert ("masked, ones alone" in {way.what for way in ways}) == (tasks.kind == "sparse")
    tolerance = TOLERANCE["float32"]
    with torch.inference_mode():
        assert check_answers(ways, by_hand, tolerance) <= tolerance
        for index, way in enumerate(ways):
            other = replace(way, work=lambda task, way=way: way.work(1 - task))
            with pytest.raises(WrongAnswerError, match=f"{tasks.kind}, task 0: "):
                check_answers([*ways[:index], other, *ways[index + 1 :]], by_hand, tolerance)


@pytest.mark.parametrize("answer", [0.0, float("nan")])
def test_answers_that_nothing_can_be_compared_to_are_found(small, answer):
    _, _, ways, by_hand = small
    empty = {key: torch.full_like(outputs, answer) for key, outputs in by_hand.items()}
    with pytest.raises(WrongAnswerError, match="nothing can be compared"):
        check_answers(ways, empty, 1e9)


def test_a_switch_adds_all_of_its_time_and_a_forward_pass_what_it_takes_longer():
    plain, taken = (0.5, 0.25, 1.0), (0.75, 0.5, 4.0)  # powers of two and their sums, so that quotients are exact
    forward = timing_of(Way("masked", print, "half"), taken, plain)
    assert (forward.median_seconds, forward.min_seconds) == (0.75, 0.5)
    assert (forward.overhead, forward.overhead_of_fastest, forward.bytes_per_second) == (0.5, 1.0, 0.0)
    switch = timing_of(Way("switch", print, "half", bytes=3), taken, plain)
    assert (switch.overhead, switch.overhead_of_fastest, switch.bytes_per_second) == (1.5, 2.0, 4.0)
