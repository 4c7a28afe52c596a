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
        logits: Tensor = self.last(self.inputs(long_eeg, short_eeg, long_pps, short_pps))
        return logits

    @property
    def last(self) -> nn.Module:
        """The last linear map, from `inputs` to logits."""
        return self.layers[-1]

    def inputs(
        self, long_eeg: Tensor, short_eeg: Tensor, long_pps: Tensor, short_pps: Tensor
    ) -> Tensor:
        """What `last` is given, (B, H)."""
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
        hidden: Tensor = self.layers[:-1](torch.cat(parts, dim=1))
        return hidden


class LinearClassifier(nn.Module):
    """Standardised features (long ones beside the mean of the short ones) and one linear map.

    The classifier over patch encoders: a few hundred windows of forty trials can't carry the
    paper's three layers. Its weights are set from a fitted linear probe and then fine-tuned.

    Parameters
    ----------
    n_features : of all four parts together
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.linear = nn.Linear(n_features, n_classes)

    def forward(
        self, long_eeg: Tensor, short_eeg: Tensor, long_pps: Tensor, short_pps: Tensor
    ) -> Tensor:
        """Logits (B, n_classes) of features (B, F), (B, P, F'), (B, F) and (B, P, F')."""
        logits: Tensor = self.last(self.inputs(long_eeg, short_eeg, long_pps, short_pps))
        return logits

    @property
    def last(self) -> nn.Module:
        """The linear map, from `inputs` to logits."""
        return self.linear

    def inputs(
        self, long_eeg: Tensor, short_eeg: Tensor, long_pps: Tensor, short_pps: Tensor
    ) -> Tensor:
        """Standardised features (B, 2 F + 2 F')."""
        x = torch.cat((long_eeg, short_eeg.mean(1), long_pps, short_pps.mean(1)), dim=1)
        return (x - self.mean) / self.scale


def _weighted(features: Tensor, head: nn.Module) -> Tensor:
    """Features (..., F) times the largest softmax of `head`."""
    confidence: Tensor = head(features).softmax(dim=-1).amax(dim=-1, keepdim=True)
    return features * confidence
