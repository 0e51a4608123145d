"""Parameter superposition: rotations are what they should be, and outputs are those of the rotated weights."""

import math

import pytest
import torch
from supsup_core.random_streams import stream_key
from supsup_methods.errors import UsageError
from supsup_methods.psp import KIND, PspSettings, rotation
from torch import nn

from .dense_problems import NOWHERE, PSP, WEIGHTS, accuracy, images, learn, opened, problem, stream, taught

CPU = torch.device("cpu")


def test_contexts_are_orthogonal():
    matrix = rotation(stream_key(0, "test"), 200, CPU)
    assert matrix.dtype == torch.float32
    error = (matrix.double() @ matrix.double().T - torch.eye(200, dtype=torch.float64)).abs().max()
    # Rounding each entry to single moves an inner product of two rows of length 1 by 2⁻²⁴ at most for each of the two.
    assert error <= 2 * 2.0**-24 * 1.001


def test_contexts_are_haar_distributed():
    """Under the Haar measure of O(n) the trace has mean 0 and variance 1, an entry variance 1/n, and det is a fair sign.

    Without the signs of diag(R), QR by reflections gives a trace far below 0.
    """
    drawn = torch.stack([rotation(stream_key(0, "test", number), 6, CPU) for number in range(400)]).double()
    traces = drawn.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert abs(traces.mean().item()) < 5 / math.sqrt(400)
    # For n >= 4 the fourth moment of the trace is that of a standard normal (Diaconis and Shahshahani 1994): Var(tr²) = 2.
    assert abs(traces.pow(2).mean().item() - 1) < 5 * math.sqrt(2 / 400)
    assert abs(torch.linalg.det(drawn).round().mean().item()) < 5 / math.sqrt(400)
    # Squares of an entry are Beta(1/2, (n-1)/2): variance 2 (n-1) / (n² (n+2)) = 10 / 288.
    squares = drawn.pow(2).mean(dim=0)
    assert (squares - 1 / 6).abs().max() < 5 * math.sqrt(10 / 288 / 400)


def test_each_task_layer_and_seed_has_a_context_of_its_own():
    method, other = opened(PSP).method, opened(PSP, seed=1).method
    contexts = [*method.contexts(0).values(), *method.contexts(1).values(), *other.contexts(0).values()]
    assert [len(context) for context in contexts] == 3 * [20, 32, 16]
    for number, context in enumerate(contexts):
        for earlier in contexts[:number]:
            assert context.shape != earlier.shape or not torch.allclose(context, earlier, atol=0.1)
    assert torch.equal(method.contexts(0)["1.weight"], contexts[0])  # drawn again, not kept


def test_outputs_are_those_of_the_rotated_weights():
    method = taught(PSP, 2)
    for task in (0, 1):
        rotated = {name: weight @ method.contexts(task)[name] for name, weight in method.weights.items()}
        expected = method.net(images(task), rotated)
        # Three layers of sums over 20 to 32 terms, in two orders, of values around 1.
        torch.testing.assert_close(method.logits(images(task), task), expected, rtol=1e-4, atol=1e-4)


def test_the_task_decides_the_answer():
    method = taught(PSP, 2)
    assert accuracy(method, 1) > 0.9
    as_another = method.logits(images(1), 0)
    assert not torch.allclose(as_another, method.logits(images(1), 1), atol=0.1)


def test_rotations_keep_what_would_otherwise_be_forgotten():
    """Eight tasks in turn: the first is still known with its rotation; PSP without contexts is the lower bound with one head."""
    assert accuracy(taught(PSP, 8), 0) > 0.85
    plain = opened(PSP).method
    plain.contexts = lambda task: {entry.name: torch.eye(entry.shape[1]) for entry in plain.net.maskable}
    learn(plain, *stream())
    assert accuracy(plain, 0) < 0.85


def test_only_the_weights_are_stored():
    for tasks in (1, 3):
        method = taught(PSP, tasks)
        assert (method.bytes.contexts, method.bytes.shared, method.bytes.buffers) == (0, 4 * WEIGHTS, 0)
        assert KIND.stored_bytes(PSP[1], method.net, tasks) == method.bytes.total


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(24, 3)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
    ],
)
def test_a_backbone_that_is_no_chain_of_linear_layers_is_refused_in_one_line(backbone):
    with pytest.raises(
        UsageError, match=r"psp: the backbone is a Sequential.*choose a fully-connected backbone"
    ) as error:
        KIND.open(NOWHERE, PspSettings(), problem(backbone=backbone), None)
    assert "\n" not in str(error.value)


def test_biases_and_nested_chains_are_as_the_network_has_them():
    def nested() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(20, 8), nn.Tanh()), nn.Linear(8, 3, bias=False))

    method = KIND.open(NOWHERE, PSP[1], problem(backbone=nested), None).method
    learn(method, stream()[0])
    assert set(method.weights) == {"1.0.weight", "2.weight"}
    assert accuracy(method, 0) > 2 / 3


def test_weights_start_xavier_normal():
    net = opened((KIND, PspSettings())).method.net
    assert net.frozen["1.weight"].std().item() == pytest.approx(math.sqrt(2 / (20 + 32)), rel=5 / math.sqrt(2 * 640))
