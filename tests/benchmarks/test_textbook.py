"""The benchmarks' textbook implementation and ours give the same answers: each is a check of the other."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from supsup_core import FrozenNetwork, MaskBank, entropy, one_shot
from supsup_datasets import Batch, ImageDataset, LabelledImages, PermutedStream, embedded_mnist
from supsup_datasets.seeds import permutation
from supsup_methods.backbones import fully_connected
from supsup_methods.mask_rules import fresh_scores
from supsup_methods.mask_training import train_threshold_mask

SIZES = (20, 16, 12, 7)
TASKS = 5
EPS = torch.finfo(torch.float64).eps


@pytest.fixture(scope="module")
def textbook():
    path = Path(__file__).parents[2] / "benchmarks" / "textbook.py"  # scripts, no package
    spec = importlib.util.spec_from_file_location("textbook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def twins(textbook):
    """The textbook's network and ours, float64, with the textbook's weights."""
    book = textbook.TextbookSupSup(SIZES, TASKS, seed=0).double()
    net = FrozenNetwork(fully_connected(SIZES[0], SIZES[1:-1], SIZES[-1]), seed=0).to(dtype=torch.float64)
    for frozen, layer in zip(net.frozen.values(), book.layers, strict=True):
        frozen.copy_(layer.weight)
    return book, net


def bank_of(book, net):
    bank = MaskBank(net)
    for task in range(book.tasks_learned):
        masks = [layer.masks[task].bool() for layer in book.layers]
        bank.append(dict(zip(net.frozen, masks, strict=True)))
    return bank


def rounding_bound(book, image):
    """Return how far two ways to compute the slopes of H in float64 may be apart.

    Logits are sums of products along paths. In floating point each product gets a factor 1 + θ with |θ| <= γ: one rounding
    for each task, input and activation that it meets, forward and backward. With Y_v the sum of the products' magnitudes,

    * |δy_v| <= γ Y_v;
    * |∂y_v/∂α_i| <= ∂Y_v/∂α_i <= k L Y_v for L layers, as Y is homogeneous of degree L in α, with terms >= 0, at α = 1/k;
      its own error is γ times that;
    * h = ∂H/∂y, of -p_v (log p_v + H), moves by its Jacobian times δy, and rounds by γ p_v (|log p_v| + H); what the
      softmax rounds its argument by, at most 2 max|y| + log n, counts as a further δy.
    """
    k, layers = book.tasks_learned, len(book.layers)
    operations = layers * (k + 2) + 2 * sum(SIZES) + SIZES[-1] + 20
    gamma = operations * EPS / (1 - operations * EPS)

    def magnitudes(x):
        for layer in book.layers:
            x = x @ (layer.weight.abs() * layer.masks.mean(dim=0)).T
        return x[0]

    size = magnitudes(image.flatten(1).abs())
    logits = book(image, [layer.masks.mean(dim=0) for layer in book.layers])[0].requires_grad_()
    log_p = torch.log_softmax(logits, dim=0).detach()
    spread = log_p.exp() * (log_p.abs() - (log_p.exp() * log_p).sum())
    curvature = torch.autograd.functional.hessian(lambda y: entropy(y[None])[0], logits).abs()
    shift = gamma * (size + 2 * logits.detach().abs().max() + math.log(len(logits)))
    one_way = k * layers * (size * (curvature @ shift + 2 * gamma * spread)).sum()
    return 2 * float(one_way)


@pytest.mark.parametrize("images", [1, 3])
def test_one_shot_sees_the_same_slopes(textbook, images):
    book, net = twins(textbook)
    book.use_random_masks()
    x = torch.randn(images, 1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slopes = book.slopes(x)
    guess = one_shot(entropy, net, bank_of(book, net), x)
    bound = max(rounding_bound(book, image[None]) for image in x)
    assert (slopes - guess.slopes[0]).abs().max() <= bound
    best, second = slopes.sort().values[:2]
    assert second - best > bound, "the guesses must be told apart by more than rounding"
    assert book.one_shot(x) == guess.task


def test_training_ends_with_the_same_masks(textbook):
    book, net = twins(textbook)
    scores = fresh_scores(net, seed=0, task=0)
    start = (scores >= 0).clone()
    generator = torch.Generator().manual_seed(2)
    batches = [
        (
            torch.randn(16, 1, 4, 5, dtype=torch.float64, generator=generator),
            torch.randint(0, 3, (16,), generator=generator),
        )
        for _ in range(10)
    ]
    book.learn(0, batches, 30, learning_rate=1e-3, scores=list(net.unflatten(scores).values()))
    ours = train_threshold_mask(net, scores, [Batch(*batch) for batch in batches] * 3, learning_rate=1e-3)
    for layer, mask in zip(book.layers, ours.values(), strict=True):
        assert torch.equal(layer.masks[0].bool(), mask)
    assert not torch.equal(net.flatten(ours), start), "training must have moved the mask"


def test_the_loader_gives_the_stream_s_images(textbook):
    whole = embedded_mnist()
    few = LabelledImages(whole.test.images[::100], whole.test.labels[::100], 10)
    stream = PermutedStream(ImageDataset("few", few, few, whole.normalization), tasks=3, seed=0)
    order = permutation(0, "pixel permutation", 2, textbook.PIXELS)
    loader = textbook.permuted_loader(textbook.EmbeddedDigits(few), order, train=False, batch_size=len(few))
    ((images, labels),) = loader
    (batch,) = stream[2].test.in_order(len(few))
    assert torch.equal(images, batch.images)
    assert torch.equal(labels, batch.labels)


def test_a_wrong_guess_makes_the_batch_wrong(textbook):
    book, _ = twins(textbook)
    book.use_random_masks()
    x = torch.randn(4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    guessed = book.one_shot(x[:1])
    loader = [(x, book.logits(x, guessed).argmax(dim=-1))]
    assert book.accuracy(guessed, loader) == 1.0
    assert book.accuracy((guessed + 1) % TASKS, loader) == 0.0
    assert book.accuracy_of_given_task(guessed, loader) == 1.0
