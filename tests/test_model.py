"""The model folder: what was saved is what is loaded, and anything else is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from physiosync.encoders import EncoderConfig
from physiosync.errors import CheckpointError
from physiosync.model import PhysioSync
from physiosync.model_config import ModelConfig
from physiosync.provenance import Seen

PATCH = EncoderConfig(width=16, depth=1, heads=2, dropout=0.5, projector=(16, 8), cmca=8)
MULTIVIEW = EncoderConfig(
    family="multiview",
    width_per_second=8,
    depth=1,
    heads=2,
    dropout=0.5,
    projector=(16, 8),
    cmca=8,
)
FAMILIES = {"patch": PATCH, "multiview": MULTIVIEW}
SFREQ = 16.0
#: Samples of a long window: three pieces of a second.
LONG = 48


def config_of(encoder: EncoderConfig, **update: Any) -> ModelConfig:
    plain = {
        "encoder": encoder,
        "sfreq": SFREQ,
        "eeg_channels": ("Fz", "Cz", "Pz", "Oz"),
        "pps_channels": {"resp": ("RESP",), "gsr": ("GSR-L", "GSR-R")},
        "pps_lag_seconds": {"resp": 1.0, "gsr": 2.5},
        "short_seconds": 1.0,
        "long_pieces": 3,
        "scaling": "robust",
    }
    return ModelConfig.model_validate(plain | update)


def made(encoder: EncoderConfig = PATCH, seed: int = 0) -> PhysioSync:
    torch.manual_seed(seed)
    return PhysioSync(config_of(encoder))


def windows(n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, 4, LONG, generator=generator),
        torch.randn(n, 3, LONG, generator=generator),
    )


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest) -> EncoderConfig:
    return FAMILIES[request.param]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# ---- the round trip


def test_loaded_is_what_was_saved(encoder: EncoderConfig, tmp_path: Path) -> None:
    model = made(encoder)
    # Batch norm's statistics have to travel too: a step in training mode moves them.
    model.train().features(*windows())
    model.save_pretrained(tmp_path / "model", metrics={"validation_score": 0.25})
    torch.manual_seed(99)
    loaded = PhysioSync.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded.embed(*windows()), model.embed(*windows()))
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics == {"validation_score": 0.25}


def test_pps_keep_their_order(saved: Path) -> None:
    """Whoever feeds the model stacks the modalities as the configuration says."""
    plain = json.loads((saved / "config.json").read_text())
    assert list(plain["pps_channels"]) == ["resp", "gsr"]
    config = PhysioSync.from_pretrained(saved).config
    assert list(config.pps_channels) == ["resp", "gsr"]
    assert list(config.lags.items()) == [("resp", 16), ("gsr", 40)]
    assert config.n_chans("pps") == 3
    card = (saved / "README.md").read_text()
    assert "RESP, GSR-L, GSR-R" in card
    assert "resp 1 s, gsr 2.5 s" in card


def test_the_card_begins_with_what_the_data_were(tmp_path: Path) -> None:
    metrics = {
        "validation_score": 0.123456789,
        "data": "SYNTHETIC",
        "is_default": True,
        "pretraining": {"epochs": 6},
    }
    made().save_pretrained(tmp_path / "model", metrics=metrics)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| validation score | 0.123 |" in card
    assert "| is default | yes |" in card
    assert card.index("* Data: SYNTHETIC") < card.index("* EEG channels")
    assert json.loads(card.split("```json")[1].split("```")[0]) == {"epochs": 6}


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    (saved / "left-over.txt").write_text("from before")
    model = made(seed=7)
    model.save_pretrained(saved)
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model"]
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    loaded = PhysioSync.from_pretrained(saved)
    assert torch.equal(loaded.embed(*windows()), model.embed(*windows()))


# ---- what is refused


def _tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def _json(**update: Any) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | update))

    return damage


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


KEY = "encoders.eeg.waveforms.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors: expected a file"),
        (lambda f: (f / "config.json").unlink(), r"config\.json: expected a file"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: expected a model config"),
        (_truncate, "expected whole safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "expected whole safetensors"),
        (_tensors(lambda t: t.pop(KEY)), f"missing: .*{KEY}"),
        (_tensors(lambda t: t.update(extra=torch.zeros(1))), "not of this model: .*extra"),
        (_tensors(lambda t: t.update({KEY: t[KEY][:, :-1].contiguous()})), f"{KEY}: expected"),
        (_tensors(lambda t: t.update({KEY: t[KEY][None].contiguous()})), f"{KEY}: expected"),
        (_tensors(lambda t: t.update({KEY: t[KEY].half()})), f"{KEY}: .*float32.*float16"),
        (_tensors(lambda t: t[KEY][3].fill_(float("nan"))), f"{KEY}: expected finite"),
        (_tensors(lambda t: t[KEY][0, :1].fill_(float("inf"))), f"{KEY}: expected finite"),
        (_json(eeg_channels=["Fz", "Cz"]), r"encoders\.eeg\.filters\.weight"),
        (_json(encoder=MULTIVIEW.model_dump(mode="json")), "missing"),
        (_json(montage="10-20"), "montage"),
        (_json(encoder=PATCH.model_dump(mode="json") | {"size": 3}), "size"),
        (_json(sfreq="fast"), "sfreq"),
        (_json(sfreq=18.0), r"config\.json: .*whole number of samples"),
        (_json(long_pieces=0), r"config\.json: "),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    saved: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=message):
        PhysioSync.from_pretrained(saved)


@pytest.mark.parametrize("name", ["results/best/rank-1", "owner/name", "hub/owner/name"])
def test_a_mistyped_folder_never_becomes_a_request(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def request(*args: object, **options: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", request)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r'"hub:owner/name"\), found no such folder'):
        PhysioSync.from_pretrained(name)
    with pytest.raises(AssertionError, match="the hub was asked"):
        PhysioSync.from_pretrained("hub:owner/name")


# ---- features


def test_pieces_are_encoded_like_windows_of_their_own(encoder: EncoderConfig) -> None:
    model = made(encoder).eval()
    eeg, pps = windows()
    with torch.no_grad():
        found = model.features(eeg, pps)
        for x, role, long, short in (
            (eeg, "eeg", found.long_eeg, found.short_eeg),
            (pps, "pps", found.long_pps, found.short_pps),
        ):
            torch.testing.assert_close(long, model.encode(role, "long", x))
            assert short.shape == (5, 3, model.n_features(role, "short"))
            for k in range(3):
                piece = x[:, :, k * 16 : (k + 1) * 16].contiguous()
                torch.testing.assert_close(short[:, k], model.encode(role, "short", piece))
    joined = torch.cat(
        [found.long_eeg, found.short_eeg.mean(1), found.long_pps, found.short_pps.mean(1)], dim=1
    )
    torch.testing.assert_close(model.embed(eeg, pps), joined)


def test_memory_order_changes_nothing(encoder: EncoderConfig) -> None:
    """Loaded windows are views of time-major memory; a user's own are not."""
    model = made(encoder)
    eeg, pps = windows()
    time_major = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (eeg, pps)]
    torch.testing.assert_close(model.embed(*time_major), model.embed(eeg, pps))


def test_only_the_patch_family_shares_weights_between_lengths() -> None:
    assert set(made(PATCH).encoders) == {"eeg", "pps"}
    assert set(made(MULTIVIEW).encoders) == {"eeg_long", "eeg_short", "pps_long", "pps_short"}
    assert made(MULTIVIEW).n_features("eeg", "long") == 3 * made(MULTIVIEW).n_features(
        "eeg", "short"
    )


@pytest.mark.parametrize("training", [True, False])
def test_embedding_uses_no_dropout_and_leaves_the_mode(
    encoder: EncoderConfig, training: bool
) -> None:
    model = made(encoder).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = model.embed(*windows()), model.embed(*windows())
    assert torch.equal(one, two)
    assert not one.requires_grad
    assert all(module.training is training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    # One window alone says the same as among others: nothing is normalised over the batch.
    torch.testing.assert_close(model.embed(*(x[:1] for x in windows())), one[:1])


@pytest.mark.parametrize(
    ("eeg", "pps", "message"),
    [
        ((2, 3, LONG), (2, 3, LONG), r"eeg must be \(B, 4, 48\), but got \(2, 3, 48\)"),
        ((2, 4, 16), (2, 3, LONG), r"eeg must be \(B, 4, 48\), but got \(2, 4, 16\)"),
        ((2, LONG, 4), (2, 3, LONG), r"eeg must be"),
        ((4, LONG), (3, LONG), r"eeg must be"),
        ((2, 4, LONG), (2, 4, LONG), r"pps must be \(B, 3, 48\), but got \(2, 4, 48\)"),
        ((2, 4, LONG), (2, 3, 96), r"pps must be"),
    ],
)
def test_windows_of_another_shape_are_refused(
    eeg: tuple[int, ...], pps: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made().embed(torch.zeros(eeg), torch.zeros(pps))


def test_as_many_windows_of_each() -> None:
    eeg, pps = windows()
    with pytest.raises(ValueError, match="as many windows of EEG as of PPS, but got 5 and 4"):
        made().embed(eeg, pps[:-1])


def test_arrays_of_double_precision_are_embedded_too() -> None:
    eeg, pps = windows()
    model = made()
    found = model.embed(eeg.double().numpy(), pps.double().numpy())
    assert torch.equal(found, model.embed(eeg, pps))


def test_nan_is_refused() -> None:
    eeg, pps = windows()
    pps[1, 0, 3] = torch.nan
    with pytest.raises(ValueError, match="pps must be finite"):
        made().embed(eeg, pps)


def test_what_pretraining_saw_goes_with_the_weights(tmp_path: Path) -> None:
    """Through as many folders as the model passes; a model that knows nothing claims nothing."""
    model = made()
    model.save_pretrained(tmp_path / "unknown")
    assert PhysioSync.from_pretrained(tmp_path / "unknown").seen is None
    model.seen = Seen(names=("a", "b"), subjects=("c",), stimuli=("d", "e"), contents=("f",))
    model.save_pretrained(tmp_path / "one")
    PhysioSync.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert PhysioSync.from_pretrained(tmp_path / "two").seen == model.seen
