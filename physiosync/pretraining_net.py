"""What pretraining trains: the encoders, and the projectors and heads that its losses see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physiosync.encoders import build_cmca_head, build_projector
from physiosync.losses import cm_ca, ls_tcl, pool_group, retrieval_accuracy
from physiosync.model import PhysioSync
from physiosync.model_config import Length, ModelConfig, Role

_ROLES: tuple[Role, ...] = ("eeg", "pps")
_LENGTHS: tuple[Length, ...] = ("long", "short")


@dataclass(frozen=True, eq=False)
class Losses:
    """Of one window length.

    Parameters
    ----------
    eeg, pps, cmca : scalars
    retrieval : share of moments whose nearest neighbour in the other group's EEG is itself
    """

    eeg: Tensor
    pps: Tensor
    cmca: Tensor
    retrieval: float


class PretrainingNet(nn.Module):
    """The encoders with a projector for each role and length, and a CM-CA head for each length."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = PhysioSync(config)
        self._pairing = config.pairing
        self.projectors = nn.ModuleDict(
            {
                f"{role}_{length}": build_projector(
                    config.encoder, self.model.n_features(role, length)
                )
                for role in _ROLES
                for length in _LENGTHS
            }
        )
        self.cmca = nn.ModuleDict(
            {
                length: build_cmca_head(config.encoder, self.model.n_features("eeg", length))
                for length in _LENGTHS
            }
        )

    def losses(self, length: Length, eeg: Tensor, pps: Tensor, temperature: float) -> Losses:
        """The three terms for windows of one length.

        Parameters
        ----------
        eeg, pps : (moments, 2, group_size, n_chans, n_times)
        """
        terms: dict[Role, Tensor] = {}
        pooled: dict[str, Tensor] = {}
        retrieval = 0.0
        windows: dict[Role, Tensor] = {"eeg": eeg, "pps": pps}
        for role, x in windows.items():
            lead = x.shape[:3]
            features = self.model.encode(role, length, x.flatten(0, 2))
            projected = self.projectors[f"{role}_{length}"](features).unflatten(0, lead).float()
            features = features.unflatten(0, lead).float()
            terms[role] = ls_tcl(projected[:, 0], projected[:, 1], temperature)
            for group in (0, 1):
                pooled[f"{role}{group}"] = pool_group(features[:, group])
            if role == "eeg":
                with torch.no_grad():
                    retrieval = retrieval_accuracy(
                        pool_group(projected[:, 0]), pool_group(projected[:, 1])
                    )
        partners = pooled["pps0"], pooled["pps1"]
        if self._pairing == "recording":
            # CM-CA crosses the groups, which are people at one moment. A recording's groups are two
            # times of one person, and its EEG belongs with the PPS of its own time.
            partners = partners[::-1]
        cmca = cm_ca(pooled["eeg0"], pooled["eeg1"], *partners, self.cmca[length], temperature)
        return Losses(terms["eeg"], terms["pps"], cmca, retrieval)
