"""What 20 supermasks of Table 2's network take at each budget, beside the paper's bytes: `python benchmarks/table2_bytes.py`.

The masks are the largest of random scores: nothing but their densities is known of them, so that trained masks take no more.
"""

import torch
from rich.console import Console
from rich.table import Table
from supsup_core import ByteLedger, FrozenNetwork, MaskBank
from supsup_methods.byte_accounts import mask_account
from supsup_methods.mask_rules import EdgePopupMasks, fresh_scores, rule_of
from supsup_methods.vision_backbones import cifar_resnet18

TASKS = 20
PAPER_BYTES = {1: 408_432, 2: 508_432, 4: 695_592, 8: 1_035_792, 16: 1_630_032, 32: 2_487_472}


def coded(net: FrozenNetwork, factor: float) -> ByteLedger:
    """Return the bytes of an entropy-coded bank of random masks of a budget, running statistics in 16 bits."""
    bank, masks = MaskBank(net, torch.float16), EdgePopupMasks(budget_factor=factor)
    for task in range(TASKS):
        bits = rule_of(masks, net, net.seed, task).mask(fresh_scores(net, net.seed, task))
        bank.append(net.unflatten(bits), net.fresh_buffers())
    return mask_account(net, bank).coded[torch.float16]


def main() -> None:
    """Print a line for each budget."""
    net = FrozenNetwork(cifar_resnet18(3, 20, 5), seed=0)
    table = Table(title=f"Bytes of {TASKS} masks and running statistics, SplitCIFAR100's ResNet-18")
    for column in ("c", "Table 2", "ours", "ours / Table 2", "masks above their densities", "manifest"):
        table.add_column(column, justify="right")
    for factor, paper in PAPER_BYTES.items():
        ledger = coded(net, factor)
        ours = ledger.total - ledger.manifest
        above = ledger.contexts / ledger.order_0 - 1
        table.add_row(
            str(factor), f"{paper:,}", f"{ours:,}", f"{ours / paper:.2f}", f"{above:.2%}", f"{ledger.manifest:,}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
