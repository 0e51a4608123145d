import runpy
from pathlib import Path

import pytest
from supsup_core import FrozenNetwork
from supsup_methods.reproduction.paper_numbers import paper_numbers
from supsup_methods.vision_backbones import cifar_resnet18

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "table2_bytes.py"))


def test_the_papers_bytes_are_those_that_it_prints():
    printed = [number.bytes for number in paper_numbers() if number.table == "2" and number.method == "SupSup"]
    assert list(SCRIPT["PAPER_BYTES"].values()) == printed


@pytest.mark.parametrize(("factor", "order_0"), [(2, 116_779), (32, 949_910)])
def test_masks_take_less_than_half_of_table_2_and_hardly_more_than_their_densities(factor, order_0):
    ledger = SCRIPT["coded"](FrozenNetwork(cifar_resnet18(3, 20, 5), seed=0), float(factor))
    assert round(ledger.order_0) == order_0
    assert ledger.buffers == 20 * 2 * 3_000
    without_manifest = ledger.total - ledger.manifest
    assert without_manifest <= SCRIPT["PAPER_BYTES"][factor] / 2
    assert without_manifest <= 1.03 * (ledger.order_0 + ledger.buffers)
