"""The product: an encoder of EEG and peripheral signals that can be saved, loaded and shared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from physiosync.encoders import build_encoder
from physiosync.errors import CheckpointError
from physiosync.files import atomic_folder
from physiosync.model_card import model_card
from physiosync.model_config import ROLES, Length, ModelConfig, Role
from physiosync.provenance import FILE, Seen

_HUB = "hub:"


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoders make of B long windows (P pieces each).

    Parameters
    ----------
    long_eeg, long_pps : (B, F_long)
    short_eeg, short_pps : (B, P, F_short)
    """

    long_eeg: Tensor
    short_eeg: Tensor
    long_pps: Tensor
    short_pps: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Long EEG, short EEG, long PPS, short PPS."""
        return self.long_eeg, self.short_eeg, self.long_pps, self.short_pps

    def joined(self) -> Tensor:
        """(B, 2 F_long + 2 F_short): long features beside the mean of the short ones."""
        parts = self.long_eeg, self.short_eeg.mean(1), self.long_pps, self.short_pps.mean(1)
        return torch.cat(parts, dim=1)


class PhysioSync(nn.Module):
    """EEG and PPS encoders for a long window and for its short pieces.

    Encoders that take any window length ("patch") share their weights between the two lengths; the
    paper's ("multiview") can't.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        #: What its pretraining saw, if that is known; saved and loaded with the weights.
        self.seen: Seen | None = None
        self._shared = config.encoder.family == "patch"
        self.encoders = nn.ModuleDict()
        lengths: tuple[Length, ...] = ("long", "short")
        for role in ROLES:
            for length in lengths:
                key = self._key(role, length)
                if key not in self.encoders:
                    self.encoders[key] = build_encoder(
                        config.encoder,
                        n_chans=config.n_chans(role),
                        n_times=config.long_times if length == "long" else config.short_times,
                        sfreq=config.sfreq,
                        role=role,
                    )

    def encode(self, role: Role, length: Length, x: Tensor) -> Tensor:
        """Features (B, F) of windows (B, n_chans, n_times) of one role and length."""
        out: Tensor = self.encoders[self._key(role, length)](x)
        return out

    def n_features(self, role: Role, length: Length) -> int:
        """Width F of `encode`'s result."""
        return int(getattr(self.encoders[self._key(role, length)], "n_features"))  # noqa: B009

    def features(self, eeg: Tensor, pps: Tensor) -> Features:
        """Encode long windows and all their pieces.

        Parameters
        ----------
        eeg, pps : (B, n_chans, long_times) standardised windows; PPS already shifted by its lags
        """
        return Features(
            long_eeg=self.encode("eeg", "long", eeg),
            short_eeg=self._pieces("eeg", eeg),
            long_pps=self.encode("pps", "long", pps),
            short_pps=self._pieces("pps", pps),
        )

    def embed(self, eeg: Tensor | NDArray[Any], pps: Tensor | NDArray[Any]) -> Tensor:
        """One vector for each window, for any downstream use; no gradient, no dropout.

        Parameters
        ----------
        eeg : (B, n_chans, n_times) numbers, computed with as float32, channels as
            `config.eeg_channels`, sampled at `config.sfreq`, `config.long_times` samples.
            Unitless: each channel minus its median, over its normalised inter-quartile range, both
            of the same person (`physiosync.scaling.robust_scale` gives them from signals in uV)
        pps : (B, n_chans, n_times), the modalities of `config.pps_channels` in that order,
            standardised in the same way (skin conductance in log10 uS before), each starting
            `config.pps_lag_seconds` later than the EEG

        Returns
        -------
        (B, F) float32: long EEG, mean short EEG, long PPS, mean short PPS.

        Raises
        ------
        ValueError
            If a shape is not the expected one, a number is NaN or infinite, or there are not as
            many windows of both.
        """
        x_eeg, x_pps = self._checked("eeg", eeg), self._checked("pps", pps)
        if len(x_eeg) != len(x_pps):
            raise ValueError(
                f"expected as many windows of EEG as of PPS, but got {len(x_eeg)} and {len(x_pps)}"
            )
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self.features(x_eeg, x_pps).joined().float()
        finally:
            self.train(was_training)

    def _checked(self, role: Role, given: Tensor | NDArray[Any]) -> Tensor:
        x = torch.as_tensor(given, dtype=torch.float32, device=next(self.parameters()).device)
        n_chans, n_times = self.config.n_chans(role), self.config.long_times
        if x.ndim != 3 or tuple(x.shape[1:]) != (n_chans, n_times):
            raise ValueError(f"{role} must be (B, {n_chans}, {n_times}), but got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"{role} must be finite, but holds NaN or infinity")
        return x

    def _pieces(self, role: Role, x: Tensor) -> Tensor:
        pieces = self.config.long_pieces
        batch, n_chans, _ = x.shape
        # Cut along time first, so that time-major memory is only viewed, never copied.
        cut = x.transpose(1, 2).reshape(batch * pieces, -1, n_chans).transpose(1, 2)
        return self.encode(role, "short", cut).reshape(batch, pieces, -1)

    def _key(self, role: Role, length: Length) -> str:
        return role if self._shared else f"{role}_{length}"

    # ---- on disk

    def save_pretrained(
        self, folder: Path | str, *, metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Write config.json, model.safetensors, metrics.json and a model card, in one step.

        A model that knows what its pretraining saw gets seen.json as well, for `physiosync audit`.
        """
        target = Path(folder)
        with atomic_folder(target) as part:
            (part / "config.json").write_text(self.config.model_dump_json(indent=1))
            weights = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
            save_file(weights, part / "model.safetensors")
            (part / "metrics.json").write_text(json.dumps(dict(metrics or {}), indent=1))
            (part / "README.md").write_text(model_card(self.config, dict(metrics or {})))
            if self.seen is not None:
                (part / FILE).write_text(self.seen.model_dump_json())

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Load a model that `save_pretrained` wrote, in evaluation mode.

        Parameters
        ----------
        folder : a local folder; or "hub:owner/name" for the Hugging Face hub, which is asked only
            when written so

        Raises
        ------
        CheckpointError
            If the folder is missing or incomplete, or its weights are not exactly those of its
            config.
        """
        name = str(folder)
        path = _download(name.removeprefix(_HUB)) if name.startswith(_HUB) else Path(name)
        if not path.is_dir():
            raise CheckpointError(
                path,
                "",
                expected='a model folder (`physiosync pull` gets one from s3; or "hub:owner/name")',
                found="no such folder",
            )
        for needed in ("config.json", "model.safetensors"):
            if not (path / needed).is_file():
                raise CheckpointError(path, needed, expected="a file", found="none")
        try:
            model = cls(ModelConfig.model_validate_json((path / "config.json").read_text()))
        except ValueError as error:
            raise CheckpointError(
                path / "config.json", "", expected="a model config", found=str(error)
            ) from error
        _load_strictly(model, path / "model.safetensors")
        model.seen = Seen.load(path)
        return model.eval()

    def push_to_hub(self, name: str, *, private: bool = True) -> None:
        """Upload to "owner/name" on the Hugging Face hub; private unless told otherwise."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model")
            api.upload_folder(repo_id=name, folder_path=Path(folder) / "model")


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name))


def _load_strictly(model: nn.Module, path: Path) -> None:
    try:
        found = load_file(path)
    except Exception as error:
        raise CheckpointError(
            path, "", expected="whole safetensors", found=f"{type(error).__name__}: {error}"
        ) from error
    expected = model.state_dict()
    for kind, names in (
        ("missing", expected.keys() - found.keys()),
        ("not of this model", found.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(
                path, kind, expected=f"{len(expected)} tensors", found=", ".join(sorted(names)[:5])
            )
    for key, value in expected.items():
        if found[key].shape != value.shape or found[key].dtype != value.dtype:
            raise CheckpointError(
                path,
                key,
                expected=f"{tuple(value.shape)} {value.dtype}",
                found=f"{tuple(found[key].shape)} {found[key].dtype}",
            )
        if found[key].is_floating_point() and not bool(torch.isfinite(found[key]).all()):
            raise CheckpointError(path, key, expected="finite numbers", found="NaN or infinity")
    model.load_state_dict(found, strict=True)
