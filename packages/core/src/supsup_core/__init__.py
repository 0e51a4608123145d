"""supsup-core: one frozen network, one binary mask a task, and task inference by superposition.

>>> import torch
>>> from supsup_core import FrozenNetwork, MaskBank, entropy, one_shot
>>> net = FrozenNetwork(torch.nn.Linear(8, 6), seed=0)
>>> bank = MaskBank(net)
>>> for task in range(3):
...     _ = bank.append({"weight": torch.rand(6, 8, generator=torch.Generator().manual_seed(task)) > 0.5})
>>> guess = one_shot(entropy, net, bank, torch.ones(1, 8))
>>> logits = net(torch.ones(1, 8), bank.weights(guess.task))
>>> logits.shape
torch.Size([1, 6])

Wortsman, Ramanujan, Liu, Kembhavi, Rastegari, Yosinski and Farhadi, Supermasks in Superposition, NeurIPS 2020.
"""

from supsup_core.belief_descent import belief_descent, belief_descent_each
from supsup_core.byte_ledger import ByteLedger, byte_ledger
from supsup_core.calibration import answer_confidences, expected_calibration_error, fit_temperature
from supsup_core.context_stores import ContextStore, OuterProductStore, RankOneStore
from supsup_core.errors import CorruptBank, FolderInUse, InvalidArgument, NetworkMismatch, SupsupError
from supsup_core.exhaustive import Trial, Trials, every_task, every_task_each, image_values
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.guesses import Guess, Guesses
from supsup_core.mask_bank import MaskBank
from supsup_core.mask_slopes import compile_ahead
from supsup_core.maskable_weights import MaskableParameter, maskable_fan_in
from supsup_core.novelty import Recognitions, recognise_each
from supsup_core.objectives import entropy, max_confidence, max_logit, superfluous_logsumexp
from supsup_core.random_streams import stream_key
from supsup_core.rank_one_bank import RankOneBank
from supsup_core.salvaging import Salvage, salvage
from supsup_core.shapes import Masks, Objective, Weights
from supsup_core.sparse_convolutions import SparseForward
from supsup_core.supermask import (
    density_budget,
    erdos_renyi_budget,
    threshold,
    threshold_mask,
    top_k,
    top_k_mask,
    top_k_masks,
)
from supsup_core.task_inference import (
    belief_slopes,
    binary,
    binary_each,
    gamma,
    gamma_each,
    group_slopes,
    one_shot,
    one_shot_each,
)
from supsup_core.weight_init import (
    initial_scores,
    kaiming_normal,
    keep_weights,
    signed_kaiming_constant,
    xavier_normal,
)

__all__ = [
    "ByteLedger",
    "ContextStore",
    "CorruptBank",
    "FolderInUse",
    "FrozenNetwork",
    "Guess",
    "Guesses",
    "InvalidArgument",
    "MaskBank",
    "MaskableParameter",
    "Masks",
    "NetworkMismatch",
    "Objective",
    "OuterProductStore",
    "RankOneBank",
    "RankOneStore",
    "Recognitions",
    "Salvage",
    "SparseForward",
    "SupsupError",
    "Trial",
    "Trials",
    "Weights",
    "answer_confidences",
    "belief_descent",
    "belief_descent_each",
    "belief_slopes",
    "binary",
    "binary_each",
    "byte_ledger",
    "compile_ahead",
    "density_budget",
    "entropy",
    "erdos_renyi_budget",
    "every_task",
    "every_task_each",
    "expected_calibration_error",
    "fit_temperature",
    "gamma",
    "gamma_each",
    "group_slopes",
    "image_values",
    "initial_scores",
    "kaiming_normal",
    "keep_weights",
    "maskable_fan_in",
    "max_confidence",
    "max_logit",
    "one_shot",
    "one_shot_each",
    "recognise_each",
    "salvage",
    "signed_kaiming_constant",
    "stream_key",
    "superfluous_logsumexp",
    "threshold",
    "threshold_mask",
    "top_k",
    "top_k_mask",
    "top_k_masks",
    "xavier_normal",
]
