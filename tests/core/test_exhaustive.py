"""Trying every task against the obvious loop, and against what theory says of it."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    RankOneBank,
    RankOneStore,
    entropy,
    every_task,
    every_task_each,
    exhaustive,
    image_values,
    keep_weights,
    max_confidence,
    max_logit,
)
from torch import nn

from .networks import filled_bank, inputs, random_masks, small_network

EPS = torch.finfo(torch.float64).eps
OBJECTIVES = [entropy, max_confidence, max_logit]
# Outputs of two layers of at most 7 products of numbers below 10 each, and an objective whose slope is at most ln 6 + 1:
# the same sums in another order differ by far less than this.
ROUNDING = 1e4 * EPS


def textbook(objective, net, store, groups):
    """One task and one group at a time, as Equation 15 reads."""
    return torch.tensor(
        [
            [float(objective(net(group, store.weights(task))).sum()) / len(group) for task in range(len(store))]
            for group in groups
        ],
        dtype=torch.float64,
    )


def rank_one(net, tasks, seed=0):
    bank = RankOneBank(net)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        bank.append(
            {
                entry.name: tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in pair)
                for entry in net.maskable
                for pair in [entry.shape[1::-1]]
            },
            net.fresh_buffers(),
        )
    return bank


class ByWeights:
    """A store that shows nothing but weights."""

    def __init__(self, bank):
        self.weights, self.blend, self.slopes = bank.weights, bank.blend, bank.slopes
        self._bank = bank

    def __len__(self):
        return len(self._bank)


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=15)
@given(tasks=st.integers(1, 9), guesses=st.integers(1, 6), shown=st.integers(1, 3), seed=st.integers(0, 1000))
def test_it_equals_the_obvious_loop(objective, tasks, guesses, shown, seed):
    net = small_network(seed=3)
    bank, x = filled_bank(net, tasks, first_seed=seed), inputs(guesses * shown, seed=seed)
    expected = textbook(objective, net, bank, x.split(shown))
    trials = every_task_each(objective, net, bank, x, shown)
    assert (trials.values - expected).abs().max() <= ROUNDING
    assert torch.equal(trials.tasks, trials.values.sort(dim=1, stable=True).indices[:, 0])
    for row, group in enumerate(x.split(shown)):
        trial = every_task(objective, net, bank, group)
        assert (trial.values - trials.values[row]).abs().max() <= ROUNDING
        assert trial.task == int(trial.values.argmin())


def with_biases():
    layers = (nn.Flatten(), nn.Linear(7, 5), nn.LayerNorm(5), nn.Tanh(), nn.Sequential(nn.Linear(5, 6)))
    return FrozenNetwork(nn.Sequential(*layers), 0, init=keep_weights).to(dtype=torch.float64)


def half_maskable():
    """A chain whose first layer no context covers."""

    def select(layer, name):
        return 6.0 if name == "weight" and layer.in_features == 6 else None

    layers = nn.Sequential(
        nn.Sequential(nn.Linear(7, 6), nn.ReLU()), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6, bias=False)
    )
    return FrozenNetwork(layers, 0, select=select).to(dtype=torch.float64)


@pytest.mark.parametrize("build", [small_network, with_biases, half_maskable])
@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=10)
@given(tasks=st.integers(1, 9), guesses=st.integers(1, 5), shown=st.integers(1, 3), seed=st.integers(0, 1000))
def test_vectors_of_rank_one_answer_as_the_weights_they_mean(build, objective, tasks, guesses, shown, seed):
    net = build()
    bank = rank_one(net, tasks, seed)
    assert isinstance(bank, RankOneStore)
    assert not isinstance(ByWeights(bank), RankOneStore)
    x = inputs(guesses * shown, seed=seed)
    fast = every_task_each(objective, net, bank, x, shown).values
    slow = every_task_each(objective, net, ByWeights(bank), x, shown).values
    # (x r) W s and x (W s rᵀ): two more roundings a product, of normal numbers that may reach 5 and outputs some thousands.
    assert (fast - slow).abs().max() <= 1e3 * ROUNDING
    assert (slow - textbook(objective, net, bank, x.split(shown))).abs().max() <= 1e3 * ROUNDING


def test_vectors_are_used_at_many_positions_of_an_image():
    net = FrozenNetwork(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 6)), 0)
    net = net.to(dtype=torch.float64)
    bank = rank_one(net, 4)
    x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fast = every_task_each(entropy, net, bank, x, 2).values
    assert (fast - textbook(entropy, net, bank, x.split(2))).abs().max() <= 1e3 * ROUNDING


def test_vectors_of_rank_one_form_no_weights(monkeypatch):
    net = small_network()
    bank = rank_one(net, 3)
    monkeypatch.setattr(RankOneBank, "weights", None)
    assert every_task_each(entropy, net, bank, inputs(4)).values.shape == (4, 3)


@pytest.mark.parametrize("fill", [filled_bank, rank_one])
@settings(max_examples=15)
@given(tasks=st.integers(1, 9), images=st.integers(1, 6), seed=st.integers(0, 1000))
def test_objectives_share_their_forward_passes(fill, tasks, images, seed):
    net = small_network(seed=3)
    bank, x = fill(net, tasks, seed), inputs(images, seed=seed)
    values = image_values(OBJECTIVES, net, bank, x)
    assert values.shape == (len(OBJECTIVES), images, tasks)
    for objective, of_objective in zip(OBJECTIVES, values, strict=True):
        assert torch.equal(of_objective, every_task_each(objective, net, bank, x).values)
        alone = textbook(objective, net, bank, x.split(1))
        assert (of_objective - alone).abs().max() <= 1e3 * ROUNDING
        # A guess from several images is the mean of what each of them says.
        first = every_task_each(objective, net, bank, x[: images // 2 + 1], images // 2 + 1).values[0]
        assert (of_objective[: images // 2 + 1].mean(dim=0) - first).abs().max() <= 1e3 * ROUNDING


def test_forward_passes_are_made_once_for_all_objectives(monkeypatch):
    net = small_network()
    passed, forward = [], FrozenNetwork.__call__
    monkeypatch.setattr(FrozenNetwork, "__call__", lambda net, *args: passed.append(1) or forward(net, *args))
    image_values(OBJECTIVES, net, filled_bank(net, 5), inputs(4))
    assert len(passed) == 5


def test_no_objective_is_refused():
    net = small_network()
    with pytest.raises(InvalidArgument, match="objectives: none is given"):
        image_values([], net, filled_bank(net, 2), inputs(1))


def test_images_that_may_see_each_other_have_no_values_of_their_own():
    net = FrozenNetwork(Centred(), 0).to(dtype=torch.float64)
    assert image_values(OBJECTIVES, net, filled_bank(net, 3), inputs(4)) is None


@pytest.mark.parametrize("floats", [1, 60, 10**7])
@pytest.mark.parametrize("fill", [filled_bank, rank_one])
def test_chunks_change_nothing(monkeypatch, floats, fill):
    net = small_network()
    bank, x = fill(net, 11), inputs(12)
    whole = every_task_each(max_logit, net, bank, x, 3)
    monkeypatch.setattr(exhaustive, "_ACTIVATION_FLOATS", floats)
    parts = every_task_each(max_logit, net, bank, x, 3)
    assert (parts.values - whole.values).abs().max() <= ROUNDING
    assert torch.equal(parts.tasks, whole.tasks)


def test_a_budget_bounds_what_goes_through_the_network_at_once(monkeypatch):
    monkeypatch.setattr(exhaustive, "_ACTIVATION_FLOATS", 60)  # of 34 floats an image in this chain
    rows = []

    def objective(logits):
        rows.append(len(logits))
        return entropy(logits)

    net = small_network()
    for bank in (filled_bank(net, 5), rank_one(net, 5)):
        every_task_each(objective, net, bank, inputs(7))
    assert rows == [1] * 2 * 5 * 7
    monkeypatch.setattr(exhaustive, "_ACTIVATION_FLOATS", 34 * 14)
    rows.clear()
    every_task_each(objective, net, bank, inputs(7))
    assert rows == [14, 14, 7], "two tasks' 7 images make 14 rows"


class Centred(nn.Module):
    """Images that see each other, in training and out of it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 6, bias=False)

    def forward(self, x):
        return self.layer(x - x.mean(dim=0))


@pytest.mark.parametrize("floats", [1, 30, 10**7])
@pytest.mark.parametrize(
    "module",
    [
        Centred(),
        nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5, affine=False, track_running_stats=False), nn.Linear(5, 6)),
    ],
    ids=["own module", "batch norm"],
)
def test_images_of_other_guesses_are_never_seen(monkeypatch, floats, module):
    monkeypatch.setattr(exhaustive, "_IMAGE_FLOATS", floats)
    net = FrozenNetwork(module, 0).to(dtype=torch.float64)
    bank, x = filled_bank(net, 4), inputs(12)
    together = every_task_each(entropy, net, bank, x, 4)
    assert (together.values - textbook(entropy, net, bank, x.split(4))).abs().max() <= ROUNDING
    assert (together.values - every_task_each(entropy, net, bank, x, 12).values).abs().max() > 1e-3


def test_each_tasks_running_statistics_come_with_its_weights():
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 6)
    )
    net = FrozenNetwork(layers, 0).to(dtype=torch.float64)
    bank = MaskBank(net)
    for task in range(3):
        statistics = {name: value + 0.25 * task for name, value in net.fresh_buffers().items()}
        bank.append(random_masks(net, 0), statistics)
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    trials = every_task_each(entropy, net, bank, x, 2)
    assert (trials.values - textbook(entropy, net, bank, x.split(2))).abs().max() <= ROUNDING
    assert len(trials.values[0].unique()) == 3, "one mask, three statistics"


def test_tasks_that_own_one_output_each_are_found():
    """Task i's mask lets through nothing but input i, to output i: of the image e_j, task j alone has a sure answer."""
    net = FrozenNetwork(nn.Linear(6, 6, bias=False), 0, init=keep_weights).to(dtype=torch.float64)
    net.module.weight.data = 20.0 * torch.eye(6, dtype=torch.float64)
    bank = MaskBank(net)
    for task in range(6):
        mask = torch.zeros(6, 6, dtype=torch.bool)
        mask[task, task] = True
        bank.append({"weight": mask})
    x = torch.eye(6, dtype=torch.float64)[torch.tensor([3, 0, 5, 1])]
    for objective in OBJECTIVES:
        assert every_task_each(objective, net, bank, x).tasks.tolist() == [3, 0, 5, 1]
    values = every_task_each(entropy, net, bank, x).values
    # A wrong task has six equal outputs; the right one, with logits 20 and five 0, p = 1 / (1 + 5 e^-20).
    wrong = torch.full((5,), torch.log(torch.tensor(6.0, dtype=torch.float64)), dtype=torch.float64)
    assert (values[0, [0, 1, 2, 4, 5]] - wrong).abs().max() <= ROUNDING
    assert 0 < float(values[0, 3]) < 6 * 21 * 2.1e-9


@settings(max_examples=25)
@given(st.permutations(range(7)), st.integers(0, 100))
def test_relabelling_the_tasks_relabels_the_answer(order, seed):
    net = small_network()
    bank, relabelled = MaskBank(net), MaskBank(net)
    for task in range(7):
        bank.append(random_masks(net, task))
    for task in order:
        relabelled.append(random_masks(net, task))
    x = inputs(2, seed=seed)
    trial, again = every_task(entropy, net, bank, x), every_task(entropy, net, relabelled, x)
    assert torch.equal(again.values, trial.values[list(order)]), "each value comes from its own task's weights alone"
    if len(trial.values.unique()) == 7:
        assert order[again.task] == trial.task


@pytest.mark.parametrize("tasks", [1, 5, 40])
def test_of_equal_tasks_the_lowest_wins(tasks):
    net = small_network()
    bank = MaskBank(net)
    for _ in range(tasks):
        bank.append(random_masks(net, 0))
    assert every_task_each(entropy, net, bank, inputs(3)).tasks.tolist() == [0, 0, 0]


def test_confidences_are_a_softmax_over_negated_values():
    net = small_network(seed=3)
    bank, x = filled_bank(net, 5), inputs(4)
    trials = every_task_each(entropy, net, bank, x)
    for temperature in (0.1, 1.0, 3.0):
        p = torch.softmax(-trials.values / temperature, dim=1)
        assert (trials.confidences(temperature) - p.amax(dim=1)).abs().max() <= 16 * EPS
    trial = every_task(entropy, net, bank, x[:1])
    # Values of some units that were rounded otherwise, divided by the temperature.
    assert abs(trial.confidence(0.1) - float(trials.confidences(0.1)[0])) <= 10 * ROUNDING
    assert trial.confidence() == trial.confidence(1.0)
    with pytest.raises(InvalidArgument, match=r"temperature=0\.0: it divides the values"):
        trials.confidences(0.0)


def test_no_graph_is_kept_and_an_objective_needs_no_gradient():
    net = small_network()
    bank = filled_bank(net, 4)
    x = inputs(2).requires_grad_()

    def ranked(logits):
        return -logits.argmax(dim=-1).to(logits.dtype)

    trials = every_task_each(ranked, net, bank, x)
    assert not every_task_each(entropy, net, bank, x).values.requires_grad
    assert trials.values.unique().numel() > 1


def test_no_label_is_in_sight():
    shown = {"objective", "net", "store", "x"}
    assert set(inspect.signature(every_task).parameters) == shown
    assert set(inspect.signature(every_task_each).parameters) == shown | {"images_per_guess"}


@pytest.mark.parametrize(
    ("tasks", "x", "images_per_guess", "message"),
    [
        (0, inputs(1), 1, "store: it holds no task"),
        (2, inputs(0), 1, "holds no image"),
        (2, torch.full((1, 7), torch.nan, dtype=torch.float64), 1, "x: the values are not finite"),
        (2, inputs(6), 4, "images_per_guess=4: 6 images are not whole groups"),
        (2, inputs(6), 0, "images_per_guess=0: 6 images are not whole groups"),
    ],
)
def test_what_cannot_be_answered_is_refused(tasks, x, images_per_guess, message):
    net = small_network()
    with pytest.raises(InvalidArgument, match=message):
        every_task_each(entropy, net, filled_bank(net, tasks), x, images_per_guess)
    if images_per_guess == 1:
        with pytest.raises(InvalidArgument, match=message):
            image_values([max_logit, entropy], net, filled_bank(net, tasks), x)
        with pytest.raises(InvalidArgument, match=message):
            every_task(entropy, net, filled_bank(net, tasks), x)


class Recurrent(nn.Module):
    """Nothing that vmap can be written for: an LSTM, and a branch by the data."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(7, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        found = self.lstm(x.unsqueeze(1))[0][:, -1]
        return self.last(found if found.max() > 0 else -found)


def test_one_guess_needs_nothing_of_the_forward_pass():
    net = FrozenNetwork(Recurrent(), 0).to(dtype=torch.float64)
    bank, x = filled_bank(net, 3), inputs(5)
    trial = every_task(entropy, net, bank, x)
    expected = [float(entropy(net(x, bank.weights(task))).mean()) for task in range(3)]
    assert trial.values.tolist() == expected
