"""The default encoder: a transformer over short patches of spatially filtered signals.

Axes: B windows, C channels, T samples, L patches, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
