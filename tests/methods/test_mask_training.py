import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, threshold
from supsup_datasets import Batch
from supsup_methods.mask_rules import Threshold, fresh_scores
from supsup_methods.mask_training import MaskTraining, train_masks, train_threshold_mask
from supsup_methods.training_loop import TrainingLoop
from torch import nn
from torch.nn.functional import cross_entropy


def problem(dtype):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(20, 16, bias=False), nn.ReLU(), nn.Linear(16, 7, bias=False))
    net = FrozenNetwork(layers, seed=0).to(dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    batches = [
        Batch(
            torch.randn(32, 1, 4, 5, generator=generator).to(dtype),
            torch.randint(0, 3, (32,), generator=generator),
        )
        for _ in range(100)
    ]
    return net, batches


def textbook(net, scores, batches, learning_rate):
    """Scores as leaves, autograd through the straight-through threshold, torch's RMSprop: the slow obvious version."""
    leaves = {name: part.clone().requires_grad_() for name, part in net.unflatten(scores).items()}
    optimizer = torch.optim.RMSprop(leaves.values(), lr=learning_rate)
    for batch in batches:
        weights = {name: net.frozen[name] * threshold(leaf) for name, leaf in leaves.items()}
        optimizer.zero_grad()
        cross_entropy(net(batch.images, weights), batch.labels).backward()
        optimizer.step()
    return net.flatten({name: leaf.detach() for name, leaf in leaves.items()})


def test_it_equals_the_textbook_loop():
    net, batches = problem(torch.float64)
    scores = fresh_scores(net, seed=0, task=0)
    expected = textbook(net, scores, batches, learning_rate=1e-3)
    masks = train_threshold_mask(net, scores, batches, learning_rate=1e-3)
    # The same products and sums; only the last bit of a vectorised division or square root may differ, 100 times.
    assert (scores - expected).abs().max() <= 1e-12
    assert torch.equal(net.flatten(masks), expected >= 0)
    assert not torch.equal(net.flatten(masks), fresh_scores(net, 0, 0) >= 0), "the mask must have moved"


def test_only_the_scores_given_are_changed():
    net, batches = problem(torch.float32)
    frozen = {name: value.clone() for name, value in net.frozen.items()}
    train_threshold_mask(net, fresh_scores(net, 0, 0), batches, 1e-3)
    assert all(torch.equal(value, net.frozen[name]) for name, value in frozen.items())


def test_every_batch_is_reported():
    net, batches = problem(torch.float32)
    seen = []
    train_threshold_mask(net, fresh_scores(net, 0, 0), iter(batches), 1e-3, lambda: seen.append(1))
    assert len(seen) == 100


def test_fresh_scores_hang_on_seed_and_task():
    net, _ = problem(torch.float32)
    first = fresh_scores(net, 0, 0)
    assert torch.equal(first, fresh_scores(net, 0, 0))
    assert not torch.equal(first, fresh_scores(net, 0, 1))
    assert not torch.equal(first, fresh_scores(net, 1, 0))
    for entry, part in zip(net.maskable, net.unflatten(first).values(), strict=True):
        assert part.abs().max() <= entry.fan_in**-0.5


def test_divergence_is_refused():
    net, batches = problem(torch.float32)
    poisoned = [Batch(batch.images * torch.nan, batch.labels) for batch in batches]
    with pytest.raises(InvalidArgument, match=r"learning_rate=0\.001: the scores diverged"):
        train_threshold_mask(net, fresh_scores(net, 0, 0), poisoned, 1e-3)


def stacked(several):
    """Return the batches of several tasks as batches with an axis for tasks."""
    return [
        Batch(torch.stack([batch.images for batch in step]), torch.stack([batch.labels for batch in step]))
        for step in zip(*several, strict=True)
    ]


def train_side_by_side(net, scores, batches, learning_rate, on_batch=lambda: None, precision="float32"):
    """Return the masks of several tasks that take each step together."""
    training = MaskTraining(batches=len(batches), learning_rate=learning_rate, precision=precision)
    loop = TrainingLoop(net, tuple(range(len(scores))), training, len(batches[0]), on_batch)
    bits = train_masks(loop, training, scores, Threshold(), lambda skip: batches[skip:], {})
    return [net.unflatten(mask) for mask in bits]


def rolled(batches, task):
    """Return batches that differ from task to task: the pixels moved along."""
    return [Batch(batch.images.roll(task, dims=-1), batch.labels) for batch in batches]


def test_tasks_side_by_side_learn_what_each_learns_alone():
    net, batches = problem(torch.float64)
    several = [rolled(batches, task) for task in range(3)]
    scores = torch.stack([fresh_scores(net, 0, task) for task in range(3)])
    alone = scores.clone()
    masks = [train_threshold_mask(net, alone[task], several[task], 1e-3) for task in range(3)]
    together = train_side_by_side(net, scores, stacked(several), 1e-3)
    # 100 steps of at most lr / sqrt(1 - .99) each, on gradients that agree to rounding.
    assert (scores - alone).abs().max() <= 1e-11
    for one, other in zip(masks, together, strict=True):
        assert torch.equal(net.flatten(one), net.flatten(other))


def test_a_step_side_by_side_in_single_precision_is_a_step_alone_but_for_rounding():
    net, batches = problem(torch.float32)
    several = [rolled(batches[:1], task) for task in range(3)]
    scores = torch.stack([fresh_scores(net, 0, task) for task in range(3)])
    before = scores.clone()
    exact_net, _ = problem(torch.float64)
    exact = before.double()
    train_side_by_side(net, scores, stacked(several), 1e-3)
    for task in range(3):
        doubles = [Batch(batch.images.double(), batch.labels) for batch in several[task]]
        train_threshold_mask(exact_net, exact[task], doubles, 1e-3)
    # The first step of RMSprop moves a score by lr g / (|g| / 10 + eps): by 10 lr where |g| is far above eps = 1e-8. A relative
    # error δ of g changes that by at most 10 lr δ; here δ is the rounding of sums over 32 images and 16 neurons.
    moved = (exact - before.double()).abs()
    clear = moved >= 0.5 * 10 * 1e-3
    assert clear.double().mean() > 0.5
    assert ((scores.double() - exact).abs()[clear] <= 10 * 1e-3 * 1e-3).all()
    assert (scores - before).abs().max() <= 10 * 1e-3 * (1 + 1e-4)


def test_every_step_side_by_side_is_reported_for_each_task():
    net, batches = problem(torch.float32)
    seen = []
    scores = torch.stack([fresh_scores(net, 0, task) for task in range(2)])
    train_side_by_side(net, scores, stacked([batches[:7], batches[:7]]), 1e-3, lambda: seen.append(1))
    assert len(seen) == 14


def test_diverging_scores_side_by_side_are_refused():
    net, batches = problem(torch.float32)
    scores = torch.stack([fresh_scores(net, 0, task) for task in range(2)])
    with pytest.raises(InvalidArgument, match=r"learning_rate=inf: the scores diverged"):
        train_side_by_side(net, scores, stacked([batches[:2], batches[:2]]), float("inf"))


@pytest.mark.parametrize("tasks", [1, 2])
def test_bfloat16_products_learn_as_much_with_scores_in_single_precision(tasks):
    net, batches = problem(torch.float32)

    def loss(precision):
        scores = torch.stack([fresh_scores(net, 0, task) for task in range(tasks)])
        if tasks == 1:
            masks = [train_threshold_mask(net, scores[0], batches, 1e-3, precision=precision)]
        else:
            masks = train_side_by_side(net, scores, stacked([batches] * tasks), 1e-3, precision=precision)
        weights = [{name: net.frozen[name] * mask[name] for name in mask} for mask in masks]
        losses = [cross_entropy(net(batch.images, each), batch.labels) for each in weights for batch in batches]
        return scores, torch.stack(losses).mean()

    exact, exact_loss = loss("float32")
    rounded, rounded_loss = loss("bfloat16")
    untrained = {name: net.frozen[name] * mask for name, mask in net.unflatten(fresh_scores(net, 0, 0) >= 0).items()}
    start = torch.stack([cross_entropy(net(batch.images, untrained), batch.labels) for batch in batches]).mean()
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact), "it must have been asked for"
    assert exact_loss < start, "the problem can be learned"
    assert start - rounded_loss >= 0.9 * (start - exact_loss)
