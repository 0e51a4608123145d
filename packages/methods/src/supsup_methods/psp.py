"""PSP: parameter superposition with rotations (Cheung et al. 2019), which the paper compares with in Tables 3, 4 and 6.

One W is trained on all tasks in turn. Each task sees it through contexts of its own, a random orthogonal matrix for each layer:
layer l computes W_l C_i a of its input a, so that its effective weights are W_l C_i. In high dimensions C_i a and C_j a are
nearly orthogonal for two tasks i and j: what one writes into W, the other hardly reads. Hardly: errors add up with tasks.

Contexts are Haar-distributed orthogonal (in, in) matrices, Q R = G of a Gaussian matrix with the signs of diag(R) moved into Q
(Mezzadri 2007). They come from (seed, task, layer) when they are needed, and are stored nowhere. Rotating a layer's input costs
less than rotating W. The task must be given: it says which rotation to use.

The paper takes the hyperparameters of PSP's own code (Appendix D.3): W is Xavier-normal, and RMSprop at 1e-4 trains it on batches
of 128, 1000 for each task (Section 4.2).

Deviation: RMSprop starts each task with fresh running means, so that a run that stops after a task has nothing but W to store.
Contexts are orthogonalised in double precision and rounded to single: the last bits may differ from machine to machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, Weights, xavier_normal
from supsup_core.linear_chain import LinearChain
from supsup_core.random_streams import normal, stream_key
from supsup_datasets import Task
from torch import Tensor, nn
from torch.nn.functional import linear

from supsup_methods.continual_method import MethodBytes, MethodKind, OnBatch, Opened, Problem, WholeGroups, check_turn
from supsup_methods.dense_training import (
    FLOAT_BYTES,
    DenseTask,
    DenseTraining,
    check_fits,
    check_learned,
    method_bytes,
    train_weights,
)
from supsup_methods.errors import UsageError
from supsup_methods.gradients import forward_gradients
from supsup_methods.snapshots import Snapshots
from supsup_methods.state_files import open_sequence, write_shared


@dataclass(frozen=True)
class PspSettings:
    """Parameter superposition with random rotations."""

    kind: Literal["psp"] = "psp"
    """Which method."""
    training: DenseTraining = field(default_factory=DenseTraining)


def rotation(key: int, size: int, device: torch.device) -> Float[Tensor, "size size"]:
    """Return the Haar-distributed orthogonal matrix of a random stream, float32."""
    q, r = torch.linalg.qr(normal(key, (size, size), 1.0).double())
    return torch.where(r.diagonal() < 0, -q, q).to(torch.float32).to(device)


class Psp:
    """The method; see the module.

    Args:
        net: the network; its own weights are where training starts.
        settings: of the training.
        weights: W as earlier tasks left it, or None before the first.
        tasks_learned: how many tasks W was trained on.
        snapshots: where a task in training is kept now and then.

    Raises:
        UsageError: the network is not a chain of linear layers.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: PspSettings,
        weights: Weights | None = None,
        tasks_learned: int = 0,
        snapshots: Snapshots | None = None,
    ) -> None:
        chain = LinearChain.of(net, training=True)
        if chain is None:
            raise UsageError(
                f"--method.kind psp: the backbone is a {type(net.module).__name__} that is no chain of linear layers without "
                "dropout, and rotations are for such chains only; choose a fully-connected backbone, or another method"
            )
        self.net = net
        self.weights: Weights = net.frozen if weights is None else weights
        self._layers = chain.layers
        self._settings = settings
        self._tasks_learned = tasks_learned
        self._snapshots = snapshots or Snapshots()
        self._last_contexts: tuple[int, dict[str, Tensor]] = (-1, {})

    @property
    def tasks_learned(self) -> int:
        """Number of tasks that W was trained on."""
        return self._tasks_learned

    @property
    def bytes(self) -> MethodBytes:
        """W; the contexts are seeds."""
        return method_bytes(self.net, (), self.weights if self._tasks_learned else {})

    @property
    def infer_each(self) -> None:
        """None: the task must be given."""
        return

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train W on one task after the other."""
        for task in tasks:
            check_turn(task, self._tasks_learned)
            precision = self._settings.training.precision
            self.weights = train_weights(
                DenseTask(self.net, task, self._settings.training, on_batch, self._snapshots),
                forward_gradients(self.net, precision, partial(self._outputs, self.contexts(task.index))),
                self.weights,
                self._settings.training.descent,
                {},
            )
            self._tasks_learned += 1

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W C_task), with W as the last task left it."""
        check_learned(task, self._tasks_learned)
        with torch.no_grad():
            return self._outputs(self.contexts(task), images, self.weights)

    def save(self, folder: Path) -> None:
        """Replace W in the folder."""
        if self._tasks_learned:
            write_shared(folder, self._tasks_learned, self.weights)

    def first(self, tasks: int) -> "Psp | None":
        """Return the method itself for all of its tasks, and None for fewer: W is no longer what it was."""
        return self if tasks == self._tasks_learned else None

    def contexts(self, task: int) -> dict[str, Float[Tensor, "in in"]]:
        """Return C_task of each layer, by the name of its weight."""
        if self._last_contexts[0] != task:
            drawn = {
                entry.name: rotation(
                    stream_key(self.net.seed, "context", task, entry.name), entry.shape[1], self.net.device
                )
                for entry in self.net.maskable
            }
            self._last_contexts = task, drawn
        return self._last_contexts[1]

    def _outputs(self, contexts: Weights, x: Tensor, weights: Weights) -> Tensor:
        for name, layer in self._layers:
            if type(layer) is nn.Linear:
                x = linear(linear(x, contexts[f"{name}.weight"]), weights[f"{name}.weight"], layer.bias)
            else:
                x = layer(x)
        return x


def _open(folder: Path, settings: PspSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network(xavier_normal)
    state, notes = open_sequence(folder, problem.device, task_files=False, mend=whole_groups is not None)
    if state.shared is not None:
        check_fits(folder, net, state.shared, net.frozen)
    return Opened(Psp(net, settings, state.shared, state.shared_after, problem.snapshots), notes)


def _stored_bytes(settings: PspSettings, net: FrozenNetwork, tasks: int) -> int:
    return FLOAT_BYTES * net.num_bits if tasks else 0


def _working_bytes(net: FrozenNetwork) -> int:
    """Return the bytes of training W, and of making the largest rotation: 67 an element, measured at 2,000 x 2,000."""
    return 32 * net.num_bits + 67 * max(entry.shape[1] for entry in net.maskable) ** 2


def _unsuited(settings: PspSettings, net: FrozenNetwork) -> str | None:
    why = (
        "rotates the inputs of chains of linear layers without dropout, which this network is not; choose fully-connected, or "
        "another method"
    )
    return None if LinearChain.of(net, training=True) else why


KIND = MethodKind(PspSettings, _open, _stored_bytes, working_bytes=_working_bytes, unsuited=_unsuited)
"""As recipes and runs know the method."""
