"""What storage comes to: the paper's way of counting against the figures of Table 2, and masks against files and formulas."""

import math

import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, byte_ledger, erdos_renyi_budget, keep_weights
from supsup_methods.backbones import fully_connected
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.byte_accounts import (
    _CONVENTIONS,
    above,
    csc_estimate,
    file_bytes,
    mask_account,
    paper_bytes,
    with_statistics_as,
)
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.psp import PspSettings
from supsup_methods.registry import KINDS, kind_of
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.upper_bound import UpperBoundSettings
from torch import nn

from ..contracts.settings import VARIANTS

TASKS = 20
BUDGETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Basic(nn.Module):
    """Two 3 × 3 convolutions and what leads around them; only shapes count here."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.around = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, affine=False)
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs, affine=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs, affine=False),
        )


def shapes(module):
    """Return a network without numbers in it; `module` makes it."""
    with torch.device("meta"):
        return FrozenNetwork(module(), seed=0, init=keep_weights)


@pytest.fixture(scope="module")
def resnet():
    """The network of Table 2, from its description."""

    def module():
        layers = [nn.Conv2d(3, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20, affine=False)]
        for inputs, outputs, stride in ((20, 20, 1), (20, 40, 2), (40, 80, 2), (80, 160, 2)):
            layers += [Basic(inputs, outputs, stride), Basic(outputs, outputs, 1)]
        return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Conv2d(160, 5, 1, bias=False))

    return shapes(module)


@pytest.fixture(scope="module")
def small():
    """12 and 6 weights, 3 channels."""
    return shapes(
        lambda: nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2, bias=False))
    )


def test_the_network_is_the_papers(resnet):
    *trunk, head = resnet.maskable
    assert sum(entry.size for entry in trunk) == 1_090_140
    assert head.size == 800
    assert sum(sum(entry.shape[:2]) for entry in trunk) == 2_703
    assert sum(entry.size for entry in resnet.task_buffers) == 2 * 1_500


@pytest.mark.parametrize(
    ("settings", "row", "figure"),
    [
        (SeparateHeadsSettings(trunk="random"), "Separate Heads - Rand W", 184_000),
        (SeparateHeadsSettings(), "Separate Heads", 4_544_560),
        (BatchESettings(last_layer="head", trunk="random"), "BatchE (GG) - Rand W", 400_240),
        (BatchESettings(last_layer="head"), "BatchE (GG)", 4_640_800),
        (UpperBoundSettings(), "Upper Bound", 89_675_200),
    ],
)
def test_the_figures_of_table_2_come_out_to_the_byte(resnet, settings, row, figure):
    counted = paper_bytes(settings, resnet, TASKS)
    assert (counted.row, counted.total) == (row, figure)


def test_where_a_row_departs_from_the_convention_a_note_says_by_how_much(resnet, small):
    assert "they would add 120,000" in paper_bytes(BatchESettings(last_layer="head"), resnet, TASKS).note
    # 20 · (4,360,560 + 3,200) + 120,000: each model with its own statistics.
    assert "with its own alone it is 87,395,200" in paper_bytes(UpperBoundSettings(), resnet, TASKS).note
    assert paper_bytes(BatchESettings(last_layer="head", trunk="random"), resnet, TASKS).note == ""
    plain = shapes(lambda: fully_connected(4, (3,), 2))
    assert paper_bytes(UpperBoundSettings(), plain, TASKS).note == "", "nothing departs where there are no statistics"


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (PspSettings(), {"trained weights": 72}),
        (LowerBoundSettings(), {"trained weights": 48, "heads": 2 * 24, "running statistics": 2 * 12}),
        (LowerBoundSettings(heads="shared"), {"trained weights": 72, "heads": 0, "running statistics": 2 * 12}),
        (BatchESettings(), {"trained weights": 72, "rank-one vectors": 2 * 48, "heads": 0}),
        (
            BatchESettings(trunk="random"),
            {"rank-one vectors": 2 * 48, "heads": 0, "running statistics": 2 * 12},
        ),
        (HopSupSupSettings(), {"reservoir": 4 * (6 + 3)}),
    ],
)
def test_methods_without_a_row_are_counted_alike(small, settings, parts):
    counted = paper_bytes(settings, small, 2)
    assert counted.parts == parts
    assert counted.row is None


def test_masks_over_weights_have_no_figure_that_could_be_derived(small):
    assert paper_bytes(SupSupSettings(), small, 2) is None
    assert paper_bytes(UnknownTasksSettings(), small, 2) is None


def test_every_registered_method_is_counted():
    assert set(_CONVENTIONS) == set(KINDS)


@pytest.mark.parametrize("name", sorted(VARIANTS))
@pytest.mark.parametrize("tasks", [1, 3])
def test_without_running_statistics_the_convention_is_what_the_numbers_take(name, tasks):
    settings = VARIANTS[name]
    if kind_of(settings).masks_units:
        net = shapes(lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3, elementwise_affine=False)))
    else:
        net = shapes(lambda: fully_connected(4, (3, 5), 2))
    counted = paper_bytes(settings, net, tasks)
    assert counted is None or counted.total == kind_of(settings).stored_bytes(settings, net, tasks)


def test_the_files_of_a_folder_are_counted_at_any_depth(tmp_path):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    for number, path in enumerate((tmp_path, tmp_path / "deep", tmp_path / "deep" / "deeper")):
        (path / "file").write_bytes(bytes(10**number))
    assert file_bytes(tmp_path) == 111
    assert file_bytes(tmp_path / "none") == 0


def normalised():
    return FrozenNetwork(
        nn.Sequential(nn.Linear(70, 50, bias=False), nn.BatchNorm1d(50, affine=False), nn.Linear(50, 9, bias=False)), 0
    )


def filled(net, tasks, density, dtype=torch.float32):
    """Masks of a density, and statistics that float16 does not hold exactly."""
    bank = MaskBank(net, dtype)
    for task in range(tasks):
        generator = torch.Generator().manual_seed(task)
        masks = {entry.name: torch.rand(entry.shape, generator=generator) < density for entry in net.maskable}
        bank.append(masks, {entry.name: torch.rand(entry.shape, generator=generator) for entry in net.task_buffers})
    return bank


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_an_entropy_coded_bank_opens_with_the_same_masks_and_its_ledger_is_its_files(tmp_path, density):
    net = normalised()
    bank = filled(net, 5, density)
    account = mask_account(net, bank)
    assert list(account.coded) == [torch.float16, torch.float32]
    for dtype, ledger in account.coded.items():
        folder = tmp_path / str(dtype)
        with_statistics_as(net, bank, dtype).save(folder, compact=True)
        assert ledger == byte_ledger(folder, net)
        assert ledger.total == file_bytes(folder)
        opened = MaskBank.open(folder, net)
        assert torch.equal(opened.rows, bank.rows)
        assert torch.equal(opened.buffers, bank.buffers.to(dtype))
        assert ledger.buffers == 5 * 100 * dtype.itemsize
    # Coding masks is one thing and rounding statistics another.
    half, whole = account.coded.values()
    assert half.contexts == whole.contexts
    assert (account.packed, account.packed_buffers) == (bank.context_bytes, 5 * 100 * 4)


def test_statistics_are_rounded_whatever_the_number_of_tasks(monkeypatch):
    monkeypatch.setattr("supsup_methods.byte_accounts._ROWS_AT_ONCE", 2)
    net = normalised()
    bank = filled(net, 5, 0.5)
    rounded = with_statistics_as(net, bank, torch.float16)
    assert torch.equal(rounded.rows, bank.rows)
    assert torch.equal(rounded.buffers, bank.buffers.half())
    assert bank.buffers.dtype == torch.float32, "the bank itself stays as it is"


def test_statistics_that_float16_does_not_hold_are_not_rounded_to_it():
    net = normalised()
    bank = filled(net, 2, 0.5)
    bank.append_rows(bank.rows[:1], torch.full((1, 100), -70_000.0))
    assert list(mask_account(net, bank).coded) == [torch.float32]
    with pytest.raises(InvalidArgument, match=r"-70000, and torch.float16 holds numbers up to 65504"):
        with_statistics_as(net, bank, torch.float16)


def test_a_bank_of_float16_statistics_is_shown_as_it_is():
    net = normalised()
    assert list(mask_account(net, filled(net, 2, 0.1, torch.float16)).coded) == [torch.float16]


def test_without_running_statistics_there_is_one_way_to_keep_them():
    net = FrozenNetwork(fully_connected(20, (10,), 5), 0)
    (ledger,) = mask_account(net, filled(net, 2, 0.1)).coded.values()
    assert ledger.buffers == 0


def test_densities_are_the_least_the_mean_and_the_most_of_each_layer():
    net = FrozenNetwork(nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(2, 2, bias=False)), 0)
    bank = MaskBank(net)
    for first, second in ((1, 4), (2, 4), (6, 0)):
        bank.append({"0.weight": torch.arange(10).view(2, 5) < first, "1.weight": torch.arange(4).view(2, 2) < second})
    account = mask_account(net, bank)
    found = [(each.layer, each.weights, each.least, each.mean, each.most) for each in account.densities]
    assert found == [("0.weight", 10, 0.1, pytest.approx(0.3), 0.6), ("1.weight", 4, 0.0, pytest.approx(2 / 3), 1.0)]
    assert account.masks == 3
    # The second layer is all ones or all zeros, which takes nothing once that is known.
    shares = (0.1, 0.2, 0.6)
    bits = sum(-10 * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) for share in shares)
    assert next(iter(account.coded.values())).order_0 == pytest.approx(bits / 8)


def test_the_share_above_a_reference():
    assert above(103, 100) == pytest.approx(0.03)
    assert above(5, 0) is None, "masks of nothing but zeros have the reference 0"


def test_the_estimate_for_csc_counts_row_numbers_and_where_columns_begin(small):
    # 5 and 2 ones in columns for 3 and 2 outputs; then 1 and 0; and 2 for each of 6 statistics and 2 tasks.
    ones = torch.tensor([[5, 2], [1, 0]])
    assert csc_estimate(small, ones) == 2 * (5 + 4) + 2 * (2 + 3) + 2 * (1 + 4) + 2 * (0 + 3) + 2 * 6 * 2


@pytest.mark.parametrize(
    ("inputs", "outputs", "ones", "width"),
    [(65_536, 1, 9, 2), (65_537, 1, 9, 4), (300, 300, 65_535, 2), (300, 300, 65_536, 4)],
)
def test_the_estimate_for_csc_takes_32_bits_where_numbers_need_them(inputs, outputs, ones, width):
    net = shapes(lambda: nn.Linear(inputs, outputs, bias=False))
    assert csc_estimate(net, torch.tensor([[ones]])) == width * (ones + outputs + 1)


def test_the_estimate_for_csc_is_not_the_papers_figure(resnet):
    """The figures that its docstring names: below the paper's with few ones, above it with many."""
    estimates = []
    for c in BUDGETS:
        budget = erdos_renyi_budget(resnet, c)
        estimates.append(csc_estimate(resnet, torch.tensor([list(budget.values())] * TASKS)))
    assert (estimates[0], estimates[-1]) == (295_760, 3_436_640)
    # 2 bytes for each one and task, and what does not depend on c.
    ones = [sum(erdos_renyi_budget(resnet, c).values()) for c in BUDGETS]
    assert {estimate - 2 * TASKS * count for estimate, count in zip(estimates, ones, strict=True)} == {181_040}
