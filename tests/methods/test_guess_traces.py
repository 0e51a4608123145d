"""One guess step by step, against core's searches, against α differentiated by hand, and against each task's own network."""

import pandas as pd
import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, RankOneBank, entropy, gamma, one_shot
from supsup_core import superfluous_logsumexp as g_of
from supsup_datasets import (
    ImagesInFiles,
    Normalization,
    ResizeCentreCrop,
    ResizedCropFlip,
    RotatedStream,
    Subset,
    large_image_folder,
)
from supsup_methods.backbones import fully_connected
from supsup_methods.errors import UsageError
from supsup_methods.guess_traces import (
    as_shown_by,
    before_moving,
    output_entropies,
    some_images,
    trace_guess,
    visible,
)
from supsup_methods.task_guessing import Gamma, OneShot
from torch import nn
from torch.func import functional_call

from ..datasets.folders import make_folder
from .learned_tasks import LABELS, learned_bank, permuted_tasks

SEARCHES = {
    "One-Shot": (OneShot(), lambda *asked: one_shot(entropy, *asked)),
    "One-Shot by G": (OneShot(objective="G"), lambda *asked: one_shot(g_of(LABELS), *asked)),
    "Binary": (Gamma(), lambda *asked: gamma(entropy, *asked, 0.5)),
    "γ = 0.8 by G": (Gamma(share=0.8, objective="G"), lambda *asked: gamma(g_of(LABELS), *asked, 0.8)),
}


def shown(task=2, first=5, count=3):
    return some_images(permuted_tasks()[task].test, first, count).images


def table(frame, column):
    return torch.from_numpy(frame.pivot_table(index="round", columns="task", values=column).to_numpy(copy=True))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("count", [1, 3])
def test_every_step_is_that_of_cores_search(name, count):
    search, alone = SEARCHES[name]
    net, bank = learned_bank()
    trace = trace_guess(search, net, bank, LABELS, shown(count=count))
    guess = alone(net, bank, shown(count=count))
    assert trace.task == guess.task
    assert trace.rounds == len(guess.slopes) == {"One-Shot": 1, "Binary": 2}.get(name.split(" by")[0], 3)
    assert list(trace.beliefs.columns) == ["round", "task", "belief"]
    assert list(trace.slopes.columns) == ["round", "task", "slope", "left"]
    assert torch.equal(table(trace.slopes, "slope").float(), torch.stack(guess.slopes))
    assert torch.equal(table(trace.beliefs, "belief")[:-1].float(), torch.stack(guess.beliefs))
    assert sorted(trace.beliefs["round"].unique()) == list(range(1, trace.rounds + 2))


def test_beliefs_are_equal_over_those_left_and_end_with_the_answer():
    net, bank = learned_bank()
    trace = trace_guess(Gamma(), net, bank, LABELS, shown())
    left = trace.slopes.groupby("round")["left"].sum().tolist()
    assert left == [4, 2], "Binary halves four tasks"
    for number, candidates in enumerate(left, start=1):
        before = trace.beliefs[trace.beliefs["round"] == number].set_index("task")["belief"]
        these = trace.slopes[trace.slopes["round"] == number].set_index("task")
        assert before[these["left"]].tolist() == [1 / candidates] * candidates
        assert before[~these["left"]].tolist() == [0.0] * (4 - candidates)
    last = trace.beliefs[trace.beliefs["round"] == 3].set_index("task")["belief"]
    assert last.to_dict() == {task: float(task == trace.task) for task in range(4)}
    first = trace.slopes[trace.slopes["round"] == 1].nsmallest(2, "slope")["task"]
    second = trace.slopes[(trace.slopes["round"] == 2) & trace.slopes["left"]]
    assert set(second["task"]) == set(first), "those of steepest descent stay"
    assert second.nsmallest(1, "slope")["task"].item() == trace.task


def test_slopes_are_the_derivative_by_the_beliefs():
    """O as a function of α itself, W(α) = Σ α_i W_i, differentiated by torch alone."""
    net, bank = learned_bank()
    images = shown()
    trace = trace_guess(Gamma(), net, bank, LABELS, images)
    for number in (1, 2):
        alpha = table(trace.beliefs, "belief")[number - 1].float().requires_grad_()
        weights = [bank.weights(task) for task in range(4)]
        blended = {name: sum(a * own[name] for a, own in zip(alpha, weights, strict=True)) for name in weights[0]}
        p = torch.softmax(functional_call(net.module, blended, (images,)), dim=1)
        (slopes,) = torch.autograd.grad(-(p * p.log()).sum(dim=1).mean(), alpha)
        # Single precision over a few thousand products a slope.
        assert table(trace.slopes, "slope")[number - 1].float() == pytest.approx(slopes, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_confidence_is_the_answers_share_among_those_left(name):
    net, bank = learned_bank()
    trace = trace_guess(SEARCHES[name][0], net, bank, LABELS, shown())
    last = trace.slopes[(trace.slopes["round"] == trace.rounds) & trace.slopes["left"]].set_index("task")["slope"]
    powers = {task: 2.718281828459045 ** (last.min() - slope) for task, slope in last.items()}
    assert trace.confidence == pytest.approx(powers[trace.task] / sum(powers.values()), rel=1e-5)
    assert trace.confidence >= 1 / len(last)


def test_outputs_are_those_of_the_answers_network():
    net, bank = learned_bank()
    images = shown(count=8)
    trace = trace_guess(OneShot(), net, bank, LABELS, images)
    logits = functional_call(net.module, dict(bank.weights(trace.task)), (images,))
    assert trace.outputs == tuple(logits.argmax(dim=1).tolist())


def test_entropies_are_those_of_each_network_alone():
    net, bank = learned_bank()
    images = shown()
    found = output_entropies(net, bank, images)
    assert found["task"].tolist() == [0, 1, 2, 3]
    for task in range(4):
        p = torch.softmax(functional_call(net.module, dict(bank.weights(task)), (images,)), dim=1).double()
        assert found["entropy"][task] == pytest.approx(float(-(p * p.log()).sum(dim=1).mean()), rel=1e-5)
    assert found["entropy"].max() <= torch.tensor(12.0).log() + 1e-6


def test_vectors_of_rank_one_are_searched_alike():
    net = FrozenNetwork(fully_connected(20, (16,), 8), seed=0)
    bank = RankOneBank(net)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        bank.append(
            {
                e.name: (torch.randn(e.shape[1], generator=draws), torch.randn(e.shape[0], generator=draws))
                for e in net.maskable
            }
        )
    trace = trace_guess(Gamma(share=0.6), net, bank, LABELS, shown())
    assert trace.task == gamma(entropy, net, bank, shown(), 0.6).task
    assert trace.slopes.groupby("round")["left"].sum().tolist() == [5, 3]
    assert len(output_entropies(net, bank, shown())) == 5


def test_g_is_refused_where_no_neuron_is_superfluous():
    net, bank = learned_bank()
    with pytest.raises(
        UsageError, match=r"objective G: with 12 outputs and 12 labels no neuron is superfluous.*choose H"
    ):
        trace_guess(OneShot(objective="G"), net, bank, 12, shown())
    assert trace_guess(OneShot(), net, bank, 12, shown()).task in range(4)


def test_an_empty_bank_has_no_answer():
    net, _ = learned_bank()
    with pytest.raises(InvalidArgument, match="holds no task to choose from"):
        trace_guess(OneShot(), net, MaskBank(net), LABELS, shown())


def test_one_image_is_too_few_for_batch_norm():
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 6))
    net = FrozenNetwork(module, seed=0)
    bank = MaskBank(net)
    for task in range(2):
        draws = torch.Generator().manual_seed(task)
        masks = {entry.name: torch.rand(entry.shape, generator=draws) < 0.5 for entry in net.maskable}
        bank.append(masks, {entry.name: torch.ones(entry.shape) for entry in net.task_buffers})
    with pytest.raises(UsageError, match=r"images: 1 is shown.*show 2 or more"):
        trace_guess(OneShot(), net, bank, LABELS, shown(count=1))
    assert trace_guess(OneShot(objective="G"), net, bank, LABELS, shown(count=2)).task in (0, 1)


@pytest.mark.parametrize(("first", "count", "found"), [(0, 1, 1), (20, 4, 4), (60, 10, 3), (62, 1, 1)])
def test_some_images_are_those_at_their_places(first, count, found):
    view = permuted_tasks()[1].test
    whole = next(view.in_order(63))
    some = some_images(view, first, count)
    assert len(some) == found
    assert torch.equal(some.images, whole.images[first : first + count])
    assert torch.equal(some.labels, whole.labels[first : first + count])


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (63, 1), (0, 0)])
def test_there_are_no_other_images(first, count):
    with pytest.raises(UsageError, match="there are images 0 to 62"):
        some_images(permuted_tasks()[1].test, first, count)


def test_images_in_files_are_read_alone(tmp_path):
    crop = {"train_crop": ResizedCropFlip(4), "test_crop": ResizeCentreCrop(4, 4)}
    data = large_image_folder(make_folder(tmp_path), **crop, workers=0)
    labels = torch.tensor([label for label in data.test.labels.tolist() if label != 0])
    members = torch.tensor([place for place, label in enumerate(data.test.labels.tolist()) if label != 0])
    view = ImagesInFiles(data.test, Subset(members, labels - 1, 2), data.reading)
    whole, some = next(view.in_order(len(view))), some_images(view, 3, 2)
    assert torch.equal(some.images, whole.images[3:5])
    assert some.labels.tolist() == whole.labels[3:5].tolist() == [0, 1]
    data.test.path(0).write_bytes(b"damaged")
    assert torch.equal(some_images(view, 3, 2).images, some.images), "no other file is read"
    assert before_moving(view, 0, 1) is None


@pytest.mark.parametrize("stream", [permuted_tasks(), RotatedStream(permuted_tasks().dataset, 4)], ids=type)
def test_an_image_from_elsewhere_is_shown_as_the_task_shows_its_own(stream):
    data = permuted_tasks().dataset
    for task in (0, 3):
        view = stream[task].test
        theirs = as_shown_by(view, data.normalization, data.test.images[7])
        assert torch.equal(theirs, some_images(view, 7, 1).images)
        base = before_moving(view, 7, 1)
        assert torch.equal(base.images[0], data.normalization.apply(data.test.images[7]))


def test_what_is_visible_are_the_bytes_that_were_normalised():
    data = permuted_tasks().dataset
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(visible(data.normalization.apply(pixels), data.normalization)[..., 0], pixels[:, 0])
    colours = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    three = Normalization((0.1, 0.2, 0.3), (0.9, 0.5, 0.25))
    assert torch.equal(visible(three.apply(colours), three), colours.permute(0, 2, 3, 1))


def test_frames_are_tidy():
    net, bank = learned_bank()
    trace = trace_guess(Gamma(), net, bank, LABELS, shown())
    assert not trace.beliefs.duplicated(["round", "task"]).any()
    assert not trace.slopes.duplicated(["round", "task"]).any()
    assert trace.slopes["left"].dtype == bool
    assert isinstance(trace.beliefs, pd.DataFrame)
