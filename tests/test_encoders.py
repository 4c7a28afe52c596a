"""Encoders, projectors, heads and the fusion classifier: sizes, shapes, training."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from physiosync.encoders import (
    CMCAHead,
    EncoderConfig,
    Projector,
    build_cmca_head,
    build_encoder,
    build_projector,
)
from physiosync.fusion import FusionClassifier
from physiosync.losses import cm_ca, nt_xent, total_loss
from physiosync.multiview import MultiViewEncoder
from physiosync.patch import PatchEncoder, _sinusoids

PAPER = EncoderConfig.paper()
#: Both families, small enough to train in a test. 16 Hz, windows of 1 s.
FAMILIES = {
    "patch": EncoderConfig(width=16, depth=2, projector=(24, 12), cmca=10),
    "multiview": EncoderConfig.model_validate(
        PAPER.model_dump() | {"width_per_second": 16, "projector": (24, 20, 12), "cmca": 10}
    ),
}


def _build(config: EncoderConfig, n_chans: int = 5, role: str = "eeg") -> nn.Module:
    torch.manual_seed(0)
    return build_encoder(config, n_chans=n_chans, n_times=16, sfreq=16.0, role=role)  # type: ignore[arg-type]


def _size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("role", "n_chans", "seconds", "expected", "expected_head"),
    [
        ("eeg", 32, 5, 80_334_592, 2_624_512),
        ("pps", 1, 5, 29_540_352, 2_624_512),
        ("eeg", 32, 1, 13_718_272, 527_360),
        ("pps", 1, 1, 11_685_888, 527_360),
    ],
)
def test_paper_preset_has_the_papers_sizes(
    role: str, n_chans: int, seconds: int, expected: int, expected_head: int
) -> None:
    with torch.device("meta"):
        encoder = build_encoder(
            PAPER,
            n_chans=n_chans,
            n_times=128 * seconds,
            sfreq=128.0,
            role=role,  # type: ignore[arg-type]
        )
        assert encoder.n_features == 4 * 128 * seconds
        assert _size(encoder, build_projector(PAPER, encoder.n_features)) == expected
        assert _size(build_cmca_head(PAPER, encoder.n_features)) == expected_head


def test_default_encoder_is_small() -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(), n_chans=32, n_times=640, sfreq=128.0, role="eeg")
    assert isinstance(encoder, PatchEncoder)
    assert encoder.n_features == 128
    assert 450_000 < _size(encoder) < 600_000


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_fit_together(family: str) -> None:
    config = FAMILIES[family]
    encoder = _build(config)
    features = encoder(torch.randn(6, 5, 16))
    assert features.shape == (6, encoder.n_features)
    width = int(features.shape[1])
    assert build_projector(config, width)(features).shape == (6, 12)
    assert build_cmca_head(config, width)(features).shape == (6, 10)


# --------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_reaches_every_parameter(family: str) -> None:
    config = FAMILIES[family]
    encoders = {role: _build(config, n, role) for role, n in (("eeg", 5), ("pps", 2))}
    width = int(encoders["eeg"].n_features)  # type: ignore[arg-type]
    projectors = {role: build_projector(config, width) for role in encoders}
    head = build_cmca_head(config, width)
    x = {"eeg": torch.randn(16, 5, 16), "pps": torch.randn(16, 2, 16)}
    features = {role: encoder(x[role]) for role, encoder in encoders.items()}
    eeg, pps = features["eeg"], features["pps"]
    terms = {role: projectors[role](f) for role, f in features.items()}
    total_loss(
        nt_xent(terms["eeg"][:8], terms["eeg"][8:], 0.1),
        nt_xent(terms["pps"][:8], terms["pps"][8:], 0.1),
        cm_ca(eeg[:8], eeg[8:], pps[:8], pps[8:], head, 0.1),
    ).backward()
    modules = nn.ModuleDict({**encoders, "head": head})
    modules.update({f"projector_{role}": module for role, module in projectors.items()})
    dead = [
        name
        for name, p in modules.named_parameters()
        if p.grad is None or not bool((p.grad != 0).any())
    ]
    assert dead == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_learn_to_tell_moments_apart(family: str) -> None:
    config = FAMILIES[family]
    encoder = _build(config)
    projector = build_projector(config, int(encoder.n_features))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(12, 5, 16, generator=generator)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=3e-3)
    losses = []
    for _ in range(40):
        x = shared.repeat(2, 1, 1) + 0.5 * torch.randn(24, 5, 16, generator=generator)
        a, b = projector(encoder(x)).split(12)
        loss = nt_xent(a, b, 0.2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_for_training_alone(family: str) -> None:
    encoder = _build(FAMILIES[family])
    x = torch.randn(4, 5, 16)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
    # Nor does a window's feature depend on what else is in the batch.
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_gives_nearly_the_same(family: str) -> None:
    encoder = _build(FAMILIES[family]).eval()
    x = torch.randn(4, 5, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(x)
    torch.testing.assert_close(found.float(), encoder(x).detach(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_layout_makes_no_difference(family: str) -> None:
    encoder = _build(FAMILIES[family]).eval()
    time_major = torch.randn(4, 16, 5)
    view = time_major.transpose(1, 2)
    assert torch.equal(encoder(view), encoder(view.contiguous()))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_follow_the_callers_seed_and_leave_it_alone(family: str) -> None:
    first, second = (_build(FAMILIES[family]).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    encoder = _build(FAMILIES[family]).eval()
    torch.manual_seed(5)
    encoder(torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.rand(1), expected)


# ------------------------------------------------------------------------------------------ patch


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 24), st.integers(1, 4), st.integers(1, 3))
def test_patch_takes_any_whole_number_of_patches(n_patches: int, n_chans: int, batch: int) -> None:
    encoder = PatchEncoder(n_chans, 16.0, 8, depth=1, heads=2).eval()
    assert encoder(torch.randn(batch, n_chans, 4 * n_patches)).shape == (batch, 8)


def test_patch_knows_the_order_of_patches() -> None:
    encoder = PatchEncoder(3, 16.0, 16).eval()
    x = torch.randn(2, 3, 16)
    swapped = torch.cat([x[..., 8:], x[..., :8]], dim=2)
    assert not torch.allclose(encoder(x), encoder(swapped), atol=1e-4)


def test_patch_tokens_are_waveforms_and_power_of_spatial_filters() -> None:
    encoder = PatchEncoder(3, 16.0, 16, spatial_filters=2)
    seen: dict[str, Tensor] = {}
    for name, layer in (("waveforms", encoder.waveforms), ("power", encoder.power)):
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    x = torch.randn(2, 3, 8)
    encoder(x)
    filtered = torch.einsum("fc,bct->bft", encoder.filters.weight, x)
    assert seen["waveforms"].shape == (2, 2, 8)
    # Time-major inside a patch: all filters of a sample, then of the next.
    torch.testing.assert_close(seen["waveforms"][1, 1], filtered[1, :, 4:].T.flatten())
    torch.testing.assert_close(
        seen["power"][1, 1], filtered[1, :, 4:].square().mean(1).log(), atol=0.01, rtol=0
    )


def test_patch_reads_power_before_any_training() -> None:
    # Noise of random sign whose power is in its class: the mean of a linear map would show nothing.
    torch.manual_seed(0)
    encoder = PatchEncoder(4, 64.0, 32).eval()
    x = torch.randn(200, 4, 640)
    x[100:, 0] *= 1.5
    with torch.no_grad():
        features = encoder(x)
    quiet, loud = features[:80].mean(0), features[100:180].mean(0)
    score = (features - (quiet + loud) / 2) @ (loud - quiet)
    right = torch.cat([score[80:100] < 0, score[180:] > 0]).float().mean()
    assert float(right) > 0.9  # without the tokens' power it is 0.78


@pytest.mark.parametrize("n_chans", [1, 3])
def test_patch_is_finite_for_silent_and_for_huge_channels(n_chans: int) -> None:
    encoder = PatchEncoder(n_chans, 16.0, 16).eval()
    for size in (0.0, 1e4):
        assert bool(encoder(torch.full((2, n_chans, 8), size)).isfinite().all())


def test_patch_copies_nothing_of_time_major_memory() -> None:
    encoder = PatchEncoder(3, 16.0, 16)
    seen: list[Tensor] = []
    encoder.filters.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    memory = torch.randn(2, 8, 3)
    encoder(memory.transpose(1, 2))
    assert seen[0].data_ptr() == memory.data_ptr()


@pytest.mark.parametrize("n_times", [0, 3, 15, 17])
def test_patch_refuses_broken_patches(n_times: int) -> None:
    encoder = PatchEncoder(3, 16.0, 16)
    with pytest.raises(ValueError, match=f"multiple of the patch .4 samples., but got {n_times}"):
        encoder(torch.randn(2, 3, n_times))
    with pytest.raises(ValueError, match="multiple of the patch"):
        build_encoder(EncoderConfig(), n_chans=3, n_times=n_times, sfreq=16.0, role="eeg")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchEncoder(3, 10.0, 16), "whole number of samples at 10 Hz, but got 0.25 s"),
        (lambda: PatchEncoder(3, 16.0, 15), r"multiple of heads \(4\), but got 15"),
        (lambda: PatchEncoder(3, 16.0, 16)(torch.randn(2, 4, 16)), r"\(B, 3, T\), but got"),
        (lambda: PatchEncoder(3, 16.0, 16)(torch.randn(3, 16)), r"\(B, 3, T\), but got \(3, 16\)"),
        (lambda: MultiViewEncoder(3, 8, 15, n_prompts=2), r"multiple of heads \(4\), but got 15"),
        (
            lambda: MultiViewEncoder(3, 8, 16, n_prompts=2)(torch.randn(2, 8, 3)),
            r"\(B, 3, 8\), but got \(2, 8, 3\)",
        ),
    ],
)
def test_errors_say_what_was_found(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


# -------------------------------------------------------------------------------------- multiview


def test_multiview_flattens_channel_by_channel() -> None:
    encoder = MultiViewEncoder(3, 4, 8, n_prompts=0)
    seen: list[Tensor] = []
    encoder.tokenizer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(2, 3, 4)
    encoder(x)
    for c in range(3):
        for t in range(4):
            assert torch.equal(seen[0][:, c * 4 + t], x[:, c, t])


def test_multiview_prompts_and_dropout_are_the_eegs_alone() -> None:
    eeg, pps = (_build(FAMILIES["multiview"], role=role) for role in ("eeg", "pps"))
    assert sum("prompts" in name for name, _ in eeg.named_parameters()) == 3
    assert not any("prompts" in name for name, _ in pps.named_parameters())
    x = torch.randn(4, 5, 16)
    assert not torch.equal(eeg(x), eeg(x))
    assert torch.equal(pps(x), pps(x))


def test_multiview_views_share_their_batch_statistics() -> None:
    tokens = MultiViewEncoder(3, 8, 16, n_prompts=0).tokenizer(3 + torch.randn(32, 3, 8).flatten(1))
    torch.testing.assert_close(tokens.mean((0, 1)), torch.zeros(16), rtol=0, atol=1e-4)
    assert float(tokens.detach().mean(0).abs().max()) > 0.01


def test_multiview_starts_small() -> None:
    encoder = MultiViewEncoder(8, 64, 64, n_prompts=2)
    small = (encoder.cls_token, encoder.position_embedding, encoder.type_embedding)
    for p in (*small, encoder.tokenizer.value.weight, encoder.tokenizer.gate.weight):
        assert 0.01 < float(p.detach().std()) < 0.03
    scales = [p for name, p in encoder.named_parameters() if "scale_" in name]
    assert len(scales) == 6
    assert all(bool((p == 0.1).all()) for p in scales)


# ------------------------------------------------------------------------------ projector and head


def test_projector_normalises_between_its_linears() -> None:
    paper = [type(m).__name__ for m in build_projector(PAPER, 8)]
    assert paper == ["Linear", "BatchNorm1d", "Dropout"] * 2 + ["Linear"]
    ours = [type(m).__name__ for m in build_projector(EncoderConfig(), 8)]
    assert ours == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert len(Projector(8, (4,), activation=True)) == 1


def test_head_normalises_each_call_by_its_own_batch() -> None:
    head = CMCAHead(4, 6)
    for x in (torch.randn(32, 4), 5 + 9 * torch.randn(32, 4)):
        out = head(x)
        torch.testing.assert_close(out.mean(0), torch.zeros(6), rtol=0, atol=1e-4)
        torch.testing.assert_close(out.std(0, correction=0), torch.ones(6), rtol=0, atol=1e-2)


# ----------------------------------------------------------------------------------------- fusion


def _fusion_inputs(batch: int = 6) -> list[Tensor]:
    return [torch.randn(batch, *shape) for shape in ((8,), (3, 4), (8,), (3, 4))]


def test_fusion_is_the_papers_sum_of_parts() -> None:
    fusion = FusionClassifier(8, 4, n_pieces=3, n_classes=2).eval()
    long_eeg, short_eeg, long_pps, short_pps = _fusion_inputs()
    joined = []
    for long, short in ((long_eeg, short_eeg), (long_pps, short_pps)):
        joined.append(long * fusion.long_head(long).softmax(1).max(1, keepdim=True).values)
        for i in range(3):
            piece = short[:, i]
            confidence = fusion.short_head(piece).softmax(1).max(1, keepdim=True).values
            joined.append(piece * confidence)
    expected = fusion.layers(torch.cat(joined, dim=1))
    found = fusion(long_eeg, short_eeg, long_pps, short_pps)
    assert found.shape == (6, 2)
    torch.testing.assert_close(found, expected)


def test_fusion_gradient_reaches_every_parameter_and_input() -> None:
    fusion = FusionClassifier(8, 4, n_pieces=3, n_classes=4)
    inputs = [x.requires_grad_() for x in _fusion_inputs()]
    nn.functional.cross_entropy(fusion(*inputs), torch.arange(6) % 4).backward()
    for p in (*fusion.parameters(), *inputs):
        assert p.grad is not None
        assert bool((p.grad != 0).any())


def test_fusion_layers_are_the_papers() -> None:
    with torch.device("meta"):
        fusion = FusionClassifier(2560, 512, n_pieces=5, n_classes=2)
    assert [m.out_features for m in fusion.layers if isinstance(m, nn.Linear)] == [256, 128, 2]
    assert fusion.layers[0].in_features == 10_240
    assert [m.p for m in fusion.layers if isinstance(m, nn.Dropout)] == [0.2]


def test_fusion_says_what_is_wrong() -> None:
    fusion = FusionClassifier(8, 4, n_pieces=3, n_classes=2)
    long_eeg, short_eeg, long_pps, short_pps = _fusion_inputs()
    with pytest.raises(ValueError, match=r"\(B, 3, F'\), but got \(6, 2, 4\)"):
        fusion(long_eeg, short_eeg, long_pps, short_pps[:, :2])
    with pytest.raises(ValueError, match="at least 1, but got"):
        FusionClassifier(8, 4, n_pieces=0, n_classes=2)


# ----------------------------------------------------------------------------------------- config


def test_paper_width_follows_the_window() -> None:
    assert [PAPER.width_for(s) for s in (1.0, 2.0, 5.0)] == [128, 256, 640]
    assert EncoderConfig(width=64).width_for(5.0) == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 30}, r"multiple of heads \(4\), but got 30"),
        ({"width_per_second": 128}, "left out for patch encoders"),
        ({"projector": ()}, "projector"),
        ({"projector": (16, 0)}, r"at least 1, but got \(16, 0\)"),
        ({"dropout": 1.0}, "dropout"),
        ({"family": "cnn"}, "family"),
        ({"layers": 3}, "layers"),
    ],
)
def test_config_refuses_what_can_not_be_built(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderConfig.model_validate(fields)


def test_config_survives_json() -> None:
    for config in (EncoderConfig(), PAPER):
        again = EncoderConfig.model_validate_json(config.model_dump_json())
        assert again == config
        assert again.uid() == config.uid()


# ---------------------------------------------------------------------- against an obvious version


def test_patch_is_the_loop() -> None:
    torch.manual_seed(0)
    encoder = PatchEncoder(3, 16.0, 8, depth=2, heads=2, mlp_ratio=3).double().eval()
    for p in encoder.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(2, 3, 20, dtype=torch.float64)
    expected = torch.stack([_slow_patch(encoder, window) for window in x])
    # Positions are made in float32.
    torch.testing.assert_close(encoder(x), expected, rtol=1e-5, atol=1e-5)


def _slow_patch(encoder: PatchEncoder, window: Tensor) -> Tensor:
    """Features (8,) of one window (3, T): patches of 4 samples, 2 heads, one thing at a time."""

    def norm(layer: nn.LayerNorm, v: Tensor) -> Tensor:
        return (v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt() * layer.weight + layer.bias

    tokens = []
    for i in range(window.shape[1] // 4):
        filtered = [encoder.filters.weight @ window[:, 4 * i + t] for t in range(4)]
        power = sum(sample**2 for sample in filtered) / 4
        token = encoder.waveforms.weight @ torch.cat(filtered) + encoder.waveforms.bias
        token = token + encoder.power.weight @ torch.log(power + 1e-3)
        angles = [i * 10_000 ** (-k / 4) for k in range(4)]
        position = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        tokens.append(token + position)
    for block in encoder.blocks:
        qkv = [block.qkv.weight @ norm(block.norm_1, token) for token in tokens]
        attended = []
        for mine in qkv:
            heads = []
            for h in (slice(0, 4), slice(4, 8)):
                likes = torch.stack([mine[0:8][h] @ other[8:16][h] / 2 for other in qkv])
                shares = likes.exp() / likes.exp().sum()
                heads.append(sum(s * o[16:24][h] for s, o in zip(shares, qkv, strict=True)))
            attended.append(block.out.weight @ torch.cat(heads) + block.out.bias)
        tokens = [token + a for token, a in zip(tokens, attended, strict=True)]
        first, second = block.mlp[0], block.mlp[2]
        for i, token in enumerate(tokens):
            hidden = first.weight @ norm(block.norm_2, token) + first.bias
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
            tokens[i] = token + second.weight @ hidden + second.bias
    return torch.stack([norm(encoder.norm, token) for token in tokens]).mean(0)


def test_every_dropout_of_a_patch_encoder_is_used() -> None:
    encoder = PatchEncoder(3, 16.0, 16, depth=2, dropout=0.3)
    dropouts = [m for m in encoder.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropouts] == [0.3] * 3  # Tokens, and the MLP of each block.
    used: list[nn.Module] = []
    for module in dropouts:
        module.register_forward_hook(lambda m, _, __: used.append(m))
    encoder(torch.randn(2, 3, 16))
    assert {id(m) for m in used} == {id(m) for m in dropouts}


@pytest.mark.parametrize("n_chans", [1, 32])
def test_patch_tokens_start_as_large_as_their_positions(n_chans: int) -> None:
    torch.manual_seed(0)
    encoder = PatchEncoder(n_chans, 128.0)
    seen: list[Tensor] = []
    encoder.dropout.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(torch.randn(16, n_chans, 640))
    tokens = seen[0] - _sinusoids(20, 128, torch.device("cpu"))
    assert float(tokens.detach().std()) == pytest.approx(1, rel=0.15)


def test_configured_sizes_reach_the_patch_encoder() -> None:
    config = EncoderConfig(
        width=24, depth=1, heads=3, spatial_filters=2, patch_seconds=0.5, mlp_ratio=3, dropout=0
    )
    encoder = _build(config)
    assert isinstance(encoder, PatchEncoder)
    assert (encoder.patch, encoder.n_features, len(encoder.blocks)) == (8, 24, 1)
    assert encoder.filters.out_features == 2
    assert encoder.blocks[0].heads == 3
    assert encoder.blocks[0].mlp[0].out_features == 72
    x = torch.randn(2, 5, 16)
    assert torch.equal(encoder(x), encoder(x))


def test_multiview_starts_at_the_papers_scale() -> None:
    torch.manual_seed(0)
    encoder = MultiViewEncoder(2, 128, 128, n_prompts=2)
    drawn = {
        "value": encoder.tokenizer.value.weight,
        "gate": encoder.tokenizer.gate.weight,
        "prompts": torch.cat([block.prompts for block in encoder.blocks]),
    }
    for name, weights in drawn.items():
        assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.1), name
