"""The losses of PhysioSync (arXiv 2504.17163): NT-Xent, LS-TCL and CM-CA. Tensors in, scalars out.

Axes: M stimulus moments, N subjects of a group, P units of a projection, F of a feature.

Deviations from the paper's scripts, none of which changes a value:

* similarities are computed in float32 even under autocast: half precision over a temperature of
  0.1 would lose two digits;
* each direction is a cross-entropy over the similarities to the other group and to the own one,
  the own moment masked, instead of a loop over moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import nn

#: The paper's weights of the EEG, PPS and cross-modal terms.
PAPER_WEIGHTS = (0.5, 0.5, 1.0)


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy between two groups.

    Row i of `a` and row i of `b` are positives; all other rows of both groups are negatives.
    Similarity is the cosine. Each direction is a mean over moments; the two are summed.

    Parameters
    ----------
    a, b : (M, P), M >= 2
    temperature : > 0

    Returns
    -------
    A scalar.

    Raises
    ------
    ValueError
        If the shapes differ, M < 2 (no negatives), or the temperature is not positive.
    """
    _check_rows(a, b)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, but got {temperature}")
    with torch.autocast(a.device.type, enabled=False):
        a, b = _unit(a), _unit(b)
        ab = a @ b.T / temperature
        ba = ab.T
        own = torch.eye(len(a), dtype=torch.bool, device=a.device)
        aa = (a @ a.T / temperature).masked_fill(own, -torch.inf)
        bb = (b @ b.T / temperature).masked_fill(own, -torch.inf)
        target = torch.arange(len(a), device=a.device)
        forth = F.cross_entropy(torch.cat([ab, aa], dim=1), target)
        back = F.cross_entropy(torch.cat([ba, bb], dim=1), target)
        return forth + back


def pool_group(x: Tensor) -> Tensor:
    """Element-wise maximum over a group's subjects: (M, N, P) -> (M, P).

    Raises
    ------
    ValueError
        If `x` has other axes, or the group is empty.
    """
    if x.ndim != 3 or x.shape[1] < 1:
        raise ValueError(f"a group must be (M, N >= 1, P), but got {tuple(x.shape)}")
    return x.amax(dim=1)


def ls_tcl(proj_1: Tensor, proj_2: Tensor, temperature: float) -> Tensor:
    """Long- and short-term temporal contrastive loss of one modality and window length.

    Parameters
    ----------
    proj_1, proj_2 : (M, N, P) projections of two disjoint groups of subjects, moment by moment
    temperature : > 0

    Returns
    -------
    A scalar: `nt_xent` of the pooled groups.

    Raises
    ------
    ValueError
        As `nt_xent` and `pool_group`.
    """
    return nt_xent(pool_group(proj_1), pool_group(proj_2), temperature)


def cm_ca(
    eeg_1: Tensor,
    eeg_2: Tensor,
    pps_1: Tensor,
    pps_2: Tensor,
    head: nn.Module,
    temperature: float,
) -> Tensor:
    """Cross-modal consistency alignment: EEG of one group against PPS of the other.

    Parameters
    ----------
    eeg_1, eeg_2, pps_1, pps_2 : (M, F) pooled features of group 1 and 2
    head : (2 M, F) -> (2 M, P), shared by the modalities. Called once for each, with both groups,
        so its batch norm sees a modality whole and never the two mixed
    temperature : > 0

    Returns
    -------
    A scalar: mean `nt_xent` of (PPS 1, EEG 2) and (EEG 1, PPS 2).

    Raises
    ------
    ValueError
        If the four shapes differ, or as `nt_xent`.
    """
    for x in (eeg_2, pps_1, pps_2):
        _check_rows(eeg_1, x)
    eeg = head(torch.cat([eeg_1, eeg_2]))
    pps = head(torch.cat([pps_1, pps_2]))
    m = len(eeg_1)
    return (nt_xent(pps[:m], eeg[m:], temperature) + nt_xent(eeg[:m], pps[m:], temperature)) / 2


def total_loss(
    l_eeg: Tensor, l_pps: Tensor, l_cmca: Tensor, weights: Sequence[float] = PAPER_WEIGHTS
) -> Tensor:
    """Weighted sum of the three terms of one window length.

    Weights compare terms only inside a length: where long and short encoders share no weights, a
    factor on a whole length is undone by Adam.

    Parameters
    ----------
    weights : of EEG, PPS and cross-modal term; >= 0 and not all 0

    Raises
    ------
    ValueError
        If the weights are not three such numbers.
    """
    if len(weights) != 3 or not all(0 <= w < float("inf") for w in weights) or not any(weights):
        raise ValueError(
            f"weights must be three finite numbers >= 0, not all 0, but got {tuple(weights)}"
        )
    return weights[0] * l_eeg + weights[1] * l_pps + weights[2] * l_cmca


@torch.no_grad()
def retrieval_accuracy(a: Tensor, b: Tensor) -> float:
    """Share of moments that are their own nearest neighbour (cosine) in the other group.

    The mean of both directions. Chance is 1 / M, and so is a collapsed encoder.

    Parameters
    ----------
    a, b : (M, P), M >= 2, row i of both the same moment

    Raises
    ------
    ValueError
        If the shapes differ or M < 2.
    """
    _check_rows(a, b)
    with torch.autocast(a.device.type, enabled=False):
        similarity = _unit(a) @ _unit(b).T
    target = torch.arange(len(a), device=a.device)
    hits = (similarity.argmax(1) == target).float() + (similarity.argmax(0) == target).float()
    return float(hits.mean() / 2)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)


def _check_rows(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"both groups must be (M, P) of one shape, but got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    if len(a) < 2:
        raise ValueError(f"at least 2 moments are needed (1 has no negatives), but got {len(a)}")
