"""Encoders of windows, and what pretraining puts on top of them.

Two families: "patch", the default, takes windows of any length; "multiview" is the paper's
(PhysioSync, arXiv 2504.17163) and in `physiosync.multiview`.

Axes: B windows, C channels, T samples, L patches, D width, F features.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from physiosync.config import Config
from physiosync.multiview import MultiViewEncoder


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


#: Power below which a filter of standardised channels counts as silent.
_SILENCE = 1e-3


class PatchEncoder(nn.Module):
    """A transformer over patches of time, each over all channels.

    Spatial filters come first. A patch's token is a linear map of their waveforms plus one of the
    logarithm of their power; positions are sinusoids, so any number of patches will do. Pre-norm
    blocks, the mean over patches at the end.

    Waveforms alone would do for telling moments apart, but their mean over patches is near zero,
    and what they say is then lost. Because both maps share the filters, a filter that learned to
    follow a synchronised source by its waveform reports that source's power as well.

    Parameters
    ----------
    n_chans : C
    sfreq : in Hz
    width : D, and the width F of a feature
    depth, heads, mlp_ratio : of the transformer
    spatial_filters : S; no more than C are made
    patch_seconds : length of a patch
    dropout : of tokens and of the blocks' MLPs

    Raises
    ------
    ValueError
        If `width` is not a multiple of `heads`, or a patch is not a whole number of samples.
    """

    def __init__(
        self,
        n_chans: int,
        sfreq: float,
        width: int = 128,
        *,
        depth: int = 3,
        heads: int = 4,
        mlp_ratio: int = 2,
        spatial_filters: int = 32,
        patch_seconds: float = 0.25,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads ({heads}), but got {width}")
        self.patch = round(patch_seconds * sfreq)
        if self.patch < 1 or not math.isclose(self.patch, patch_seconds * sfreq, rel_tol=1e-6):
            raise ValueError(
                f"a patch must be a whole number of samples at {sfreq:g} Hz, "
                f"but got {patch_seconds:g} s = {patch_seconds * sfreq:g} samples"
            )
        self.n_chans = n_chans
        self.n_features = width
        n_filters = min(spatial_filters, n_chans)
        self.filters = nn.Linear(n_chans, n_filters, bias=False)
        self.waveforms = nn.Linear(self.patch * n_filters, width)
        self.power = nn.Linear(n_filters, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        blocks = (PatchBlock(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.apply(_by_fan_in)
        nn.init.orthogonal_(self.filters.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Features of windows.

        Parameters
        ----------
        x : (B, C, T), T a multiple of the patch; fastest as a transposed view of (B, T, C) memory

        Returns
        -------
        (B, D)

        Raises
        ------
        ValueError
            If there are other channels, or T is not a positive multiple of the patch.
        """
        if x.ndim != 3 or x.shape[1] != self.n_chans:
            raise ValueError(f"windows must be (B, {self.n_chans}, T), but got {tuple(x.shape)}")
        n_patches = self.n_patches(x.shape[2])
        # Time-major memory is only viewed here, never copied.
        patches = self.filters(x.transpose(1, 2)).unflatten(1, (n_patches, self.patch))
        # In float32: squares and their logarithm leave half precision's range.
        power = patches.float().square().mean(dim=2).add(_SILENCE).log().to(patches.dtype)
        tokens = self.waveforms(patches.flatten(2)) + self.power(power)
        tokens = tokens + _sinusoids(n_patches, self.n_features, x.device)
        features: Tensor = self.norm(self.blocks(self.dropout(tokens))).mean(dim=1)
        return features

    def n_patches(self, n_times: int) -> int:
        """Patches in a window of `n_times` samples.

        Raises
        ------
        ValueError
            If that is not a whole number, or none.
        """
        if n_times < 1 or n_times % self.patch:
            raise ValueError(
                f"windows must be a multiple of the patch ({self.patch} samples), but got {n_times}"
            )
        return n_times // self.patch


class PatchBlock(nn.Module):
    """Pre-norm transformer block: attention, then a GELU MLP.

    Parameters
    ----------
    width : D
    heads : a divisor of D
    mlp_ratio : hidden units of the MLP, in D
    dropout : of the MLP's output
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        # A bias of the keys would do nothing: softmax does not see what all keys share.
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        hidden = mlp_ratio * width
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        qkv = self.qkv(self.norm_1(tokens)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = tokens + self.mlp(self.norm_2(tokens))
        return out


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


def _by_fan_in(module: nn.Module) -> None:
    """Start a linear so that its outputs are as large as its inputs.

    With the paper's 0.02, three PPS channels gave tokens a fifth as large as their positions; with
    PyTorch's default, blocks were so nearly linear that the mean over tokens lost a signal's power.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _sinusoids(n: int, width: int, device: torch.device) -> Tensor:
    """(n, width) positions: sines and cosines of wavelengths from 2 pi to 10,000 * 2 pi patches."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=device) * (-math.log(10_000.0) / half))
    angles = torch.arange(n, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
