"""Objectives that are low where the network is sure of its output: logits y to one scalar per image (Sections 3.3, 3.6)."""

import torch

from supsup_core.errors import InvalidArgument
from supsup_core.shapes import Logits, Objective, PerImage


def entropy(logits: Logits) -> PerImage:
    """Return H(p) = -sum_v p_v log p_v in nats, for p = softmax(y).

    Raises:
        InvalidArgument: there is one output: it is always sure, and no task stands out.
    """
    if logits.shape[-1] < 2:
        raise InvalidArgument("logits: of one output the entropy is always 0; use a last layer of two or more")
    log_p = torch.log_softmax(logits, dim=-1)
    # An output that is ruled out, y_v = -inf, has p_v = 0 and adds nothing.
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=-1)


def max_confidence(logits: Logits) -> PerImage:
    """Return M(p) = -max_v p_v, the negated confidence (App. C)."""
    return -torch.softmax(logits, dim=-1).amax(dim=-1)


def max_logit(logits: Logits) -> PerImage:
    """Return -max_v y_v, the negated largest output: confidence before normalisation, which keeps the outputs' scale."""
    return -logits.amax(dim=-1)


def superfluous_logsumexp(num_labels: int) -> Objective:
    """Return the objective G = logsumexp(y) whose gradient reaches only the superfluous neurons (Eq. 25).

    The s-neurons are the outputs from index `num_labels` on: training pushes them down, so a mask that belongs to the
    data keeps them low. The real outputs count in the value and are detached. By Lemma I.1 the gradient with respect to
    an s-neuron v is p_v, which is that of the supervised loss, whatever the label.

    Raises:
        InvalidArgument: `num_labels` is below 1; or, when called, there is no s-neuron and hence no gradient.
    """
    if num_labels < 1:
        raise InvalidArgument(f"num_labels={num_labels}: a task has at least one label; pass the number of real labels")

    def g(logits: Logits) -> PerImage:
        outputs = logits.shape[-1]
        if outputs <= num_labels:
            raise InvalidArgument(
                f"num_labels={num_labels}: with {outputs} outputs there is no superfluous neuron, so G has no gradient; "
                "use a wider last layer, or entropy"
            )
        real, superfluous = logits.split([num_labels, outputs - num_labels], dim=-1)
        return torch.logsumexp(torch.cat([real.detach(), superfluous], dim=-1), dim=-1)

    return g
