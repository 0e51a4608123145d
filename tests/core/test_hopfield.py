import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import InvalidArgument
from supsup_core.hopfield import Reservoir, energy, hebb, reservoir_values, settle, storkey, strict_storkey
from supsup_core.hopfield_recovery import Recovery, RecoverySettings, binarize

EPS = torch.finfo(torch.float64).eps


def patterns(count, units, seed):
    draw = torch.rand(count, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.where(draw < 0.5, -1.0, 1.0).to(torch.float64)


def stored(rule, strings):
    couplings = torch.zeros(strings.shape[1], strings.shape[1], dtype=torch.float64)
    for z in strings:
        couplings = rule(couplings, z)
    return couplings


def textbook(rule, couplings, z):
    """The three rules, coupling by coupling, as their papers print them."""
    d = len(z)
    new = couplings.clone()
    for i in range(d):
        for j in range(d):
            change = z[i] * z[j]
            if rule is storkey:
                h = [sum(couplings[u, v] * z[v] for v in range(d)) for u in (i, j)]
                change = change - z[i] * h[1] - h[0] * z[j] - float(i == j)
            elif rule is strict_storkey:
                h_ij, h_ji = (sum(couplings[u, v] * z[v] for v in range(d) if v not in (i, j)) for u in (i, j))
                change = change - z[i] * h_ji - h_ij * z[j]
            new[i, j] += change / d
        if rule is strict_storkey:
            new[i, i] = 0.0
    return new


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
@given(count=st.integers(1, 3), units=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_rules_are_those_of_their_papers(rule, count, units, seed):
    strings = patterns(count, units, seed)
    expected = torch.zeros(units, units, dtype=torch.float64)
    for z in strings:
        expected = textbook(rule, expected, z)
    assert (stored(rule, strings) - expected).abs().max() <= 100 * EPS


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
@given(count=st.integers(1, 5), units=st.integers(2, 12), seed=st.integers(0, 1000))
def test_couplings_are_symmetric_and_the_energy_is_even(rule, count, units, seed):
    couplings = stored(rule, patterns(count, units, seed))
    assert (couplings - couplings.T).abs().max() <= 100 * EPS
    z = torch.randn(units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert energy(couplings, z) == energy(couplings, -z)


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
def test_a_single_stored_string_and_its_mirror_are_the_only_minima(rule):
    (z,) = patterns(1, 8, 0)
    couplings = stored(rule, z.unsqueeze(0))
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 8)
    energies = torch.stack([energy(couplings, string) for string in every])
    lowest = every[energies <= energies.min() + 100 * EPS]
    assert {tuple(string.tolist()) for string in lowest} == {tuple(z.tolist()), tuple((-z).tolist())}


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
def test_a_few_uncorrelated_strings_are_local_minima(rule):
    strings = patterns(5, 400, 1)
    couplings = stored(rule, strings)
    for z in strings:
        fields = couplings @ z - couplings.diagonal() * z
        assert (fields * z > 0).all(), "turning any unit raises the energy"


def test_binarizing_is_the_sign_with_plus_one_at_zero_and_a_straight_gradient():
    z = torch.tensor([-0.5, -0.0, 0.0, 2.0], requires_grad=True)
    assert binarize(z).tolist() == [-1.0, 1.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad((binarize(z) * torch.arange(4.0)).sum(), z)
    assert gradient.tolist() == [0.0, 1.0, 2.0, 3.0]


def reservoir(masks, rule=storkey):
    filled = Reservoir.empty({name: len(mask) for name, mask in masks[0].items()}, torch.float64)
    for each in masks:
        filled = filled.store(each, rule)
    return filled


def random_layers(count, seed=0):
    return [
        {name: part > 0 for name, part in zip(("a", "b"), patterns(2, 60, 10 * seed + task), strict=True)}
        for task in range(count)
    ]


def test_the_reservoir_keeps_the_running_mean_and_grows_by_nothing():
    masks = random_layers(4)
    filled = reservoir(masks)
    assert filled.stored == 4
    for name in ("a", "b"):
        mean = torch.stack([2.0 * each[name].double() - 1.0 for each in masks]).mean(dim=0)
        assert (filled.mean[name] - mean).abs().max() <= 16 * EPS
        assert filled.couplings[name].shape == (60, 60)


def test_storing_leaves_the_reservoir_before_as_it_was():
    masks = random_layers(2)
    before = reservoir(masks[:1])
    copies = {name: part.clone() for name, part in before.couplings.items()}
    before.store(masks[1])
    assert all(torch.equal(copies[name], before.couplings[name]) for name in copies)


def test_recovery_finds_the_mask_that_the_data_asks_for():
    masks = random_layers(3)
    wanted = masks[1]
    recovery = Recovery(reservoir(masks), steps=30, settings=RecoverySettings(strength=0.1, learning_rate=5.0))

    def uncertainty(floats):
        # Lowest at the wanted mask on the units that this "data" reveals: a third of them.
        distances = [(floats[name] - wanted[name].double())[::3].pow(2).mean() for name in wanted]
        return torch.stack(distances).sum()

    steps = [recovery.step(uncertainty) for _ in range(30)]
    assert all(torch.equal(recovery.masks[name], wanted[name]) for name in wanted)
    assert steps[-1].energy < steps[0].energy
    assert steps[-1].objective == pytest.approx(0.1 * steps[-1].energy)  # at t = T the reservoir alone speaks


def test_recovery_follows_equation_7_and_torchs_sgd():
    masks = random_layers(2)
    filled = reservoir(masks)
    settings = RecoverySettings(strength=0.3, learning_rate=0.7, momentum=0.8, weight_decay=0.1)
    recovery = Recovery(filled, steps=5, settings=settings)
    z = {name: mean.clone().requires_grad_() for name, mean in filled.mean.items()}
    sgd = torch.optim.SGD(z.values(), lr=0.7, momentum=0.8, weight_decay=0.1)

    def uncertainty(floats):
        return sum((floats[name] * torch.linspace(-1, 1, 60, dtype=torch.float64)).sum() for name in floats)

    for t in range(1, 6):
        step = recovery.step(uncertainty)
        strings = {name: binarize(part) for name, part in z.items()}
        terms = sum(-0.5 * strings[name] @ filled.couplings[name] @ strings[name] for name in strings)
        objective = 0.3 * t / 5 * terms + (1 - t / 5) * uncertainty({name: (s + 1) / 2 for name, s in strings.items()})
        assert step.objective == pytest.approx(objective.item(), rel=1e-12)
        sgd.zero_grad()
        objective.backward()
        sgd.step()
        for name, part in z.items():
            assert torch.equal(recovery.masks[name], part >= 0)


def test_what_cannot_be_recovered_is_refused():
    masks = random_layers(1)
    with pytest.raises(InvalidArgument, match="steps=0"):
        Recovery(reservoir(masks), steps=0)
    with pytest.raises(InvalidArgument, match="it holds no pattern to recover"):
        Recovery(Reservoir.empty({"a": 3}), steps=1)
    with pytest.raises(InvalidArgument, match="name at least one layer"):
        Reservoir.empty({})
    with pytest.raises(InvalidArgument, match="pass one mask of that width for each"):
        reservoir(masks).store({"a": masks[0]["a"]})
    recovery = Recovery(reservoir(masks), steps=1)
    recovery.step(lambda floats: floats["a"].sum())
    with pytest.raises(InvalidArgument, match="all of them were taken"):
        recovery.step(lambda floats: floats["a"].sum())


def test_the_defaults_are_those_of_the_appendix():
    settings = RecoverySettings()
    assert (settings.strength, settings.learning_rate) == (1.5e-3, 500.0)
    assert (settings.momentum, settings.weight_decay) == (0.9, 1e-4)


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
def test_couplings_stay_symmetric_to_the_last_bit(rule):
    strings = patterns(6, 33, 4).float()
    couplings = torch.zeros(33, 33)
    for z in strings:
        couplings = rule(couplings, z)
        assert torch.equal(couplings, couplings.T)


def test_a_reservoir_is_stored_as_half_of_each_matrix_and_comes_back_bit_by_bit():
    filled = reservoir(random_layers(4))
    tensors = filled.tensors()
    assert sum(part.numel() for part in tensors.values()) == reservoir_values({"a": 60, "b": 60}) == 2 * (1830 + 60)
    again = Reservoir.from_tensors(tensors, stored=4)
    assert again.stored == 4
    for name in ("a", "b"):
        assert torch.equal(again.couplings[name], filled.couplings[name])
        assert torch.equal(again.mean[name], filled.mean[name])


@pytest.mark.parametrize("missing", ["mean.a", "couplings.a", "mean.b", "couplings.b"])
def test_tensors_that_are_no_reservoir_are_refused(missing):
    tensors = reservoir(random_layers(1)).tensors()
    del tensors[missing]
    with pytest.raises(InvalidArgument, match="tensors: of shapes"):
        Reservoir.from_tensors(tensors, stored=1)
    with pytest.raises(InvalidArgument, match="tensors: of shapes"):
        Reservoir.from_tensors({}, stored=0)


@pytest.mark.parametrize("rule", [hebb, storkey, strict_storkey])
def test_damaged_strings_settle_where_they_came_from(rule):
    strings = patterns(4, 300, 3)
    couplings = stored(rule, strings)
    cues = strings.clone()
    for row, cue in enumerate(cues):
        cue[torch.randperm(300, generator=torch.Generator().manual_seed(row))[:30]] *= -1
    assert torch.equal(settle(couplings, strings), strings)
    assert torch.equal(settle(couplings, cues), strings)


def test_units_without_a_field_stay_as_they_are_and_the_diagonal_does_not_count():
    cues = torch.tensor([[1.0, -1.0]])
    assert torch.equal(settle(torch.zeros(2, 2), cues), cues)
    assert torch.equal(settle(torch.tensor([[-9.0, 1.0], [1.0, -9.0]]), torch.tensor([[1.0, 1.0]])), torch.ones(1, 2))


@given(units=st.integers(2, 12), seed=st.integers(0, 1000))
def test_at_rest_no_unit_would_lower_the_energy_by_turning(units, seed):
    half = torch.randn(units, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    couplings = half + half.T
    cues = patterns(3, units, seed)
    for cue, rest in zip(cues, settle(couplings, cues), strict=True):
        assert energy(couplings, rest) <= energy(couplings, cue) + 100 * units**2 * EPS
        for unit in range(units):
            turned = rest.clone()
            turned[unit] *= -1
            assert energy(couplings, turned) >= energy(couplings, rest) - 100 * units**2 * EPS


def test_it_ends_where_fields_are_zero_but_for_rounding():
    """Too many strings in float32: many fields are 0, and come out as what rounding leaves of them."""
    for seed in range(20):
        strings = patterns(20, 40, seed).float()
        settle(stored(hebb, strings).float(), strings)
        couplings = torch.zeros(40, 40)
        for z in strings:
            couplings = storkey(couplings, z)
        settle(couplings, strings)


def test_couplings_that_are_not_symmetric_may_never_rest():
    with pytest.raises(InvalidArgument, match="units still turn after 1000 sweeps; make them symmetric"):
        settle(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))


@pytest.mark.parametrize("strings", [torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1, 0, 1])])
@pytest.mark.usefixtures("as_users_call")
def test_strings_and_numbers_are_no_masks(strings):
    with pytest.raises(InvalidArgument, match=rf"masks\['a'\]: {strings.dtype}; pass torch.bool, such as z > 0"):
        Reservoir.empty({"a": 3}).store({"a": strings})
    with pytest.raises(InvalidArgument, match=r"pass torch.bool"):
        Reservoir.empty({"a": 3}).settled({"a": strings})


@pytest.mark.usefixtures("as_users_call")
def test_units_along_several_axes_are_stored_in_a_row():
    mask = torch.tensor([[True, False], [True, True]])
    flat, shaped = (Reservoir.empty({"a": 4}).store({"a": each}) for each in (mask.flatten(), mask))
    assert torch.equal(shaped.couplings["a"], flat.couplings["a"])
    assert torch.equal(shaped.settled({"a": mask})["a"], flat.settled({"a": mask.flatten()})["a"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_entropy_that_is_no_number_is_refused_and_changes_nothing(bad):
    recovery = Recovery(reservoir([{"a": torch.tensor([True, False, True])}]), 3)
    before = recovery.masks["a"].clone()
    with pytest.raises(InvalidArgument, match=rf"entropy_of: {bad}, or its gradient, is no finite number"):
        recovery.step(lambda masks: masks["a"].sum() * bad)
    assert torch.equal(recovery.masks["a"], before)
    for _ in range(3):
        recovery.step(lambda masks: masks["a"].sum())


def test_tensors_without_an_axis_are_no_reservoir():
    with pytest.raises(InvalidArgument, match="a reservoir with these layers has"):
        Reservoir.from_tensors({"mean.a": torch.tensor(0.5), "couplings.a": torch.zeros(1)}, 1)
