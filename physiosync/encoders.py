"""Encoders of windows, and what pretraining puts on top of them.

Two families: "patch", the default, takes windows of any length (`physiosync.patch`); "multiview" is
the paper's (PhysioSync, arXiv 2504.17163; `physiosync.multiview`).

Axes: B windows, C channels, T samples, L patches, D width, F features.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import nn

from physiosync.config import Config
from physiosync.multiview import MultiViewEncoder
from physiosync.patch import PatchEncoder


class EncoderConfig(Config):
    """An encoder, its projector and its cross-modal head. `paper()` gives the paper's."""

    family: Literal["patch", "multiview"] = "patch"
    width: int = Field(default=128, ge=1)
    """Units of a token; not used if `width_per_second` is given."""
    width_per_second: int | None = Field(default=None, ge=1)
    """Multiview only: the width follows the window, this many units a second."""
    depth: int = Field(default=3, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=4, ge=1)
    spatial_filters: int = Field(default=32, ge=1)
    """Patch only: weighted sums of channels that patches are made of; at most one a channel."""
    patch_seconds: float = Field(default=0.25, gt=0)
    """Patch only: length of a patch; windows hold a whole number of them."""
    mlp_ratio: int = Field(default=2, ge=1)
    """Hidden units of a block's MLP, in widths."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Patch: of tokens and MLPs. Multiview: of the EEG's tokens (the paper's PPS has none)."""
    prompts: int = Field(default=2, ge=0)
    """Multiview only: prompt tokens in each block of the EEG encoder (the paper's PPS has none)."""
    projector: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Output units of the projector's linears; the last is what the loss sees."""
    projector_dropout: float = Field(default=0.0, ge=0, lt=1)
    cmca: int = Field(default=128, ge=1)
    """Output units of the cross-modal head."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.family == "patch" and self.width_per_second is not None:
            raise ValueError(
                "width_per_second must be left out for patch encoders, which share their weights "
                f"between window lengths, but got {self.width_per_second}"
            )
        if self.width_per_second is None and self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads ({self.heads}), but got {self.width}"
            )
        if min(self.projector) < 1:
            raise ValueError(f"projector sizes must be at least 1, but got {self.projector}")
        return self

    @classmethod
    def paper(cls) -> Self:
        """The paper's: 128 units a second of window, so D is 128 at 1 s and 640 at 5 s."""
        return cls(
            family="multiview",
            width_per_second=128,
            depth=3,
            heads=4,
            mlp_ratio=4,
            dropout=0.2,
            prompts=2,
            projector=(1024, 2048, 4096),
            projector_dropout=0.2,
            cmca=1024,
        )

    def width_for(self, seconds: float) -> int:
        """D for windows of `seconds`."""
        rate = self.width_per_second
        return self.width if rate is None else round(rate * seconds)


class Projector(nn.Sequential):
    """What pretraining's losses see instead of the features; thrown away afterwards.

    Parameters
    ----------
    n_features : F
    sizes : output units of each linear; batch norm follows all but the last
    activation : ReLU after each batch norm; the paper has none
    dropout : after each batch norm
    """

    def __init__(
        self, n_features: int, sizes: tuple[int, ...], *, activation: bool, dropout: float = 0.0
    ) -> None:
        layers: list[nn.Module] = []
        for size in sizes[:-1]:
            layers += [nn.Linear(n_features, size), nn.BatchNorm1d(size)]
            layers += [nn.ReLU()] if activation else []
            layers += [nn.Dropout(dropout)] if dropout else []
            n_features = size
        super().__init__(*layers, nn.Linear(n_features, sizes[-1]))


class CMCAHead(nn.Sequential):
    """The cross-modal head (B, n_features) -> (B, n_out): a linear and a batch norm.

    The modalities share it. Call it once for each, so that each has its own batch statistics.
    """

    def __init__(self, n_features: int, n_out: int) -> None:
        super().__init__(nn.Linear(n_features, n_out), nn.BatchNorm1d(n_out))


def build_encoder(
    config: EncoderConfig, *, n_chans: int, n_times: int, sfreq: float, role: Literal["eeg", "pps"]
) -> PatchEncoder | MultiViewEncoder:
    """An encoder (B, n_chans, n_times) -> (B, n_features) with fresh weights.

    Parameters
    ----------
    n_times : window length in samples; patch encoders take other lengths as well
    sfreq : in Hz
    role : the paper's EEG encoders have prompts and dropout, its PPS encoders neither

    Raises
    ------
    ValueError
        If the window is not a whole number of patches, or its width no multiple of the heads.
    """
    blocks = {"depth": config.depth, "heads": config.heads, "mlp_ratio": config.mlp_ratio}
    if config.family == "patch":
        encoder = PatchEncoder(
            n_chans,
            sfreq,
            config.width,
            spatial_filters=config.spatial_filters,
            patch_seconds=config.patch_seconds,
            dropout=config.dropout,
            **blocks,
        )
        encoder.n_patches(n_times)  # Better now than at the first batch.
        return encoder
    return MultiViewEncoder(
        n_chans,
        n_times,
        config.width_for(n_times / sfreq),
        n_prompts=config.prompts if role == "eeg" else 0,
        dropout=config.dropout if role == "eeg" else 0.0,
        **blocks,
    )


def build_projector(config: EncoderConfig, n_features: int) -> Projector:
    """The projector of `config` for features of an encoder."""
    activation, dropout = config.family == "patch", config.projector_dropout
    return Projector(n_features, config.projector, activation=activation, dropout=dropout)


def build_cmca_head(config: EncoderConfig, n_features: int) -> CMCAHead:
    """The cross-modal head of `config` for pooled features of an encoder."""
    return CMCAHead(n_features, config.cmca)
