"""The paper preset gives the released model's numbers for weights and inputs made from seeds.

`data/golden.npz` holds only numbers. Parameter k of a module with base b is
0.05 * RandomState(b + k).standard_normal(shape), and 1 + that for the scale of a norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from physiosync.encoders import (
    EncoderConfig,
    build_cmca_head,
    build_encoder,
    build_projector,
)
from physiosync.fusion import FusionClassifier
from physiosync.losses import cm_ca, nt_xent
from physiosync.multiview import MultiViewBlock, MultiViewEncoder

GOLDEN = np.load(Path(__file__).parent / "data" / "golden.npz")
TOLERANCE = 1e-4
PAPER = EncoderConfig.paper()
CASES = {"short_deap": (10_000, 32, 1), "dreamer": (20_000, 14, 2)}

Slot = tuple[Tensor, bool]  # a parameter, and whether it is the scale of a norm


def _plain(*parameters: Tensor) -> Iterator[Slot]:
    yield from ((p, False) for p in parameters)


def _linear(module: nn.Module) -> Iterator[Slot]:
    assert isinstance(module, nn.Linear)
    yield from _plain(module.weight, module.bias)


def _norm(module: nn.Module) -> Iterator[Slot]:
    assert isinstance(module, nn.LayerNorm | nn.BatchNorm1d)
    yield module.weight, True
    yield module.bias, False


def _encoder(encoder: MultiViewEncoder) -> Iterator[Slot]:
    prompted = encoder.blocks[0].prompts is not None
    cls, kind, position = encoder.cls_token, encoder.type_embedding, encoder.position_embedding
    yield from _plain(*((position, cls, kind) if prompted else (cls, kind, position)))
    yield from _linear(encoder.tokenizer.value)
    yield from _linear(encoder.tokenizer.gate)
    yield from _norm(encoder.tokenizer.norm)
    yield from _norm(encoder.norm)
    for block in encoder.blocks:
        assert isinstance(block, MultiViewBlock)
        yield from _plain(block.scale_attention, block.scale_mlp)
        if block.prompts is not None:
            yield from _plain(block.prompts)
        yield from _norm(block.norm_1)
        yield from _plain(block.q_bias, block.v_bias, block.qkv.weight)
        yield from _linear(block.out)
        yield from _norm(block.norm_2)
        yield from _linear(block.mlp_in)
        yield from _linear(block.mlp_out)


def _layers(module: nn.Sequential) -> Iterator[Slot]:
    for layer in module:
        if isinstance(layer, nn.Linear):
            yield from _linear(layer)
        elif isinstance(layer, nn.BatchNorm1d):
            yield from _norm(layer)


def _fill(slots: Iterator[Slot], base: int, modules: list[nn.Module]) -> None:
    filled = list(slots)
    expected = {id(p) for module in modules for p in module.parameters()}
    assert {id(p) for p, _ in filled} == expected
    for k, (parameter, is_scale) in enumerate(filled):
        values = 0.05 * np.random.RandomState(base + k).standard_normal(tuple(parameter.shape))
        parameter.data = torch.from_numpy((values + is_scale).astype(np.float32))


def _normal(seed: int, *shape: int) -> Tensor:
    values = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def _half(base: int, seed: int, n_chans: int, role: str) -> tuple[Tensor, Tensor]:
    encoder = build_encoder(PAPER, n_chans=n_chans, n_times=128, sfreq=128.0, role=role)
    projector = build_projector(PAPER, encoder.n_features)

    def slots() -> Iterator[Slot]:
        yield from _encoder(encoder)
        yield from _layers(projector)

    _fill(slots(), base, [encoder, projector])
    encoder.eval()
    projector.eval()
    features = encoder(_normal(seed, 8, 1, n_chans, 128).squeeze(1))
    return features, projector(features)


@pytest.fixture(scope="module", params=CASES)
def outputs(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    base, n_eeg, n_pps = CASES[request.param]
    with torch.no_grad():
        eeg, eeg_projections = _half(base, base + 900, n_eeg, "eeg")
        pps, pps_projections = _half(base + 200, base + 901, n_pps, "pps")
        head = build_cmca_head(PAPER, eeg.shape[1])
        _fill(_layers(head), base + 400, [head])
        return request.param, {
            "eeg_features": eeg,
            "pps_features": pps,
            "eeg_projections": eeg_projections[:, :256],
            "pps_projections": pps_projections[:, :256],
            "loss_eeg": nt_xent(eeg_projections[:4], eeg_projections[4:], 0.1),
            "loss_pps": nt_xent(pps_projections[:4], pps_projections[4:], 0.1),
            "loss_cmca": cm_ca(eeg[:4], eeg[4:], pps[:4], pps[4:], head.train(), 0.1),
        }


@pytest.mark.parametrize(
    "name",
    [
        "eeg_features",
        "pps_features",
        "eeg_projections",
        "pps_projections",
        "loss_eeg",
        "loss_pps",
        "loss_cmca",
    ],
)
def test_paper_preset_gives_the_released_numbers(
    outputs: tuple[str, dict[str, Tensor]], name: str
) -> None:
    case, found = outputs
    _assert_close(found[name], f"{case}/{name}")


def test_fusion_gives_the_released_logits() -> None:
    fusion = FusionClassifier(2560, 512, n_pieces=5, n_classes=2).eval()

    def slots() -> Iterator[Slot]:
        yield from _linear(fusion.long_head)
        yield from _linear(fusion.short_head)
        yield from _layers(fusion.layers)

    _fill(slots(), 30_000, [fusion])
    short = [
        torch.stack([_normal(first + i, 6, 512) for i in range(5)], dim=1)
        for first in (30_910, 30_920)
    ]
    with torch.no_grad():
        logits = fusion(_normal(30_900, 6, 2560), short[0], _normal(30_901, 6, 2560), short[1])
    _assert_close(logits, "fusion/logits")


def _assert_close(found: Tensor, name: str) -> None:
    expected = GOLDEN[name]
    assert found.shape == expected.shape
    worst = np.abs(found.numpy() - expected).max() / np.abs(expected).max()
    print(f"{name}: {worst:.1e}")
    assert worst < TOLERANCE
