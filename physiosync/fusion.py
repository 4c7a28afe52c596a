"""The paper's classifier: features weighted by their own confidence, joined, three linears."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FusionClassifier(nn.Module):
    """Confidence-weighted fusion of long and short features of both modalities.

    Each feature is multiplied by its confidence, the largest softmax of an auxiliary linear head;
    there is one such head a window length, shared by EEG and PPS. Source: PhysioSync
    (arXiv 2504.17163), fine-tuning.

    Parameters
    ----------
    long_features, short_features : F and F', widths of a long and of a short feature
    n_pieces : P, short windows in a long one
    n_classes : K
    hidden : widths of the two hidden layers
    dropout : before the last linear

    Raises
    ------
    ValueError
        If a size is below 1.
    """

    def __init__(
        self,
        long_features: int,
        short_features: int,
        n_pieces: int,
        n_classes: int,
        hidden: tuple[int, int] = (256, 128),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        sizes = (long_features, short_features, n_pieces, n_classes, *hidden)
        if min(sizes) < 1:
            raise ValueError(f"all sizes must be at least 1, but got {sizes}")
        self.n_pieces = n_pieces
        self.long_head = nn.Linear(long_features, n_classes)
        self.short_head = nn.Linear(short_features, n_classes)
        self.layers = nn.Sequential(
            nn.Linear(2 * (long_features + n_pieces * short_features), hidden[0]),
            nn.BatchNorm1d(hidden[0]),
            nn.ReLU(),
            nn.Linear(hidden[0], hidden[1]),
            nn.BatchNorm1d(hidden[1]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden[1], n_classes),
        )

    def forward(
        self, long_eeg: Tensor, short_eeg: Tensor, long_pps: Tensor, short_pps: Tensor
    ) -> Tensor:
        """Logits.

        Parameters
        ----------
        long_eeg, long_pps : (B, F)
        short_eeg, short_pps : (B, P, F')

        Returns
        -------
        (B, K)

        Raises
        ------
        ValueError
            If there are more or fewer than P pieces.
        """
        for pieces in (short_eeg, short_pps):
            if pieces.ndim != 3 or pieces.shape[1] != self.n_pieces:
                raise ValueError(
                    f"short features must be (B, {self.n_pieces}, F'), "
                    f"but got {tuple(pieces.shape)}"
                )
        parts = (
            _weighted(long_eeg, self.long_head),
            _weighted(short_eeg, self.short_head).flatten(1),
            _weighted(long_pps, self.long_head),
            _weighted(short_pps, self.short_head).flatten(1),
        )
        logits: Tensor = self.layers(torch.cat(parts, dim=1))
        return logits


def _weighted(features: Tensor, head: nn.Module) -> Tensor:
    """Features (..., F) times the largest softmax of `head`."""
    confidence: Tensor = head(features).softmax(dim=-1).amax(dim=-1, keepdim=True)
    return features * confidence
