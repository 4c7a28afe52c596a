"""What each part of the method carries: variants of one configuration, judged alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from physiosync.config import Config
from physiosync.errors import SamplingError, StudyError
from physiosync.loading import complete_trials, of_same_people
from physiosync.model import PhysioSync
from physiosync.model_config import ROLES, Role
from physiosync.predictions import prediction_rows
from physiosync.pretraining import Pretraining, PretrainingConfig, moment_sampler
from physiosync.probing import Ints, covering_windows, embedding, predict_trials
from physiosync.splits import Split
from physiosync.tasks import Workload, write_predictions
from physiosync.training import DivergedError
from physiosync.windows import WindowStore

#: What all others are compared with.
DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """One row of the study.

    Parameters
    ----------
    name : on the command line
    group : what it belongs with
    words : in tables and figures
    changes : fields of `PretrainingConfig`; of "augmentation" those that differ
    roles : whose features the probe is given
    trained : whether it is pretrained at all
    """

    name: str
    group: str
    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    roles: tuple[Role, ...] = ROLES
    trained: bool = True

    def config(self, base: PretrainingConfig) -> PretrainingConfig:
        """`base` with the changes."""
        plain = base.model_dump()
        changes = dict(self.changes)
        changes["augmentation"] = plain["augmentation"] | changes.get("augmentation", {})
        # Validated anew: model_copy would let an impossible configuration through.
        return PretrainingConfig.model_validate(plain | changes)


def _windows(short: float, pieces: int) -> Variant:
    return Variant(
        f"windows-{short:g}x{pieces}",
        "windows",
        f"short {short:g} s, long {short * pieces:g} s",
        {"short_seconds": short, "long_pieces": pieces},
    )


def _temperature(value: float) -> Variant:
    return Variant(
        f"temperature-{value:g}", "temperature", f"temperature {value:g}", {"temperature": value}
    )


VARIANTS: tuple[Variant, ...] = (
    Variant(DEFAULT, "default", "default"),
    Variant("shuffled-pairs", "controls", "shuffled pairs", {"pairs": "shuffled"}),
    Variant("untrained", "controls", "no pretraining", trained=False),
    Variant("no-tcl-long", "terms", "without LS-TCL long", {"w_tcl_long": 0.0}),
    Variant("no-tcl-short", "terms", "without LS-TCL short", {"w_tcl_short": 0.0}),
    Variant("no-tcl", "terms", "without LS-TCL (CM-CA alone)", {"w_eeg": 0.0, "w_pps": 0.0}),
    Variant("no-cmca", "terms", "without CM-CA (LS-TCL alone)", {"w_cmca": 0.0}),
    Variant("eeg-only", "terms", "EEG only", {"w_pps": 0.0, "w_cmca": 0.0}, roles=("eeg",)),
    Variant("pps-only", "terms", "PPS only", {"w_eeg": 0.0, "w_cmca": 0.0}, roles=("pps",)),
    Variant("groups-2", "pairs", "groups of 2, pooled", {"group_size": 2}),
    Variant("groups-4", "pairs", "groups of 4, pooled", {"group_size": 4}),
    Variant(
        "no-lags", "pairs", "without the lags", {"lag_skin_seconds": 0.0, "lag_body_seconds": 0.0}
    ),
    Variant(
        "no-augmentation",
        "augmentation",
        "without augmentation",
        {"augmentation": {"scale_half_width": 0.0}},
    ),
    Variant(
        "noise", "augmentation", "noise at 10 dB added", {"augmentation": {"noise_snr_db": 10.0}}
    ),
    Variant(
        "channel-dropout",
        "augmentation",
        "channel dropout 0.2 added",
        {"augmentation": {"channel_dropout": 0.2}},
    ),
    Variant(
        "paper-augmentation",
        "augmentation",
        "the paper's augmentation",
        {"augmentation": {"recipe": "paper"}},
    ),
    Variant("paper-scaling", "scaling", "the paper's normalisation", {"scaling": "paper"}),
    _windows(1, 3),
    _windows(2, 3),
    _windows(2, 5),
    _temperature(0.1),
    _temperature(0.7),
)


def chosen(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants of these names, all if there are none; always with the default.

    Raises
    ------
    StudyError
        If a name is no variant's.
    """
    known = {variant.name: variant for variant in VARIANTS}
    if strangers := [name for name in names if name not in known]:
        raise StudyError(
            f"--variants: expected some of {', '.join(known)}, found {', '.join(strangers)}"
        )
    wanted = {DEFAULT, *(names or known)}
    return tuple(variant for variant in VARIANTS if variant.name in wanted)


def infeasible(
    variant: Variant, base: PretrainingConfig, store: WindowStore, splits: Sequence[Split]
) -> str | None:
    """Why these trials can't fill a variant's batches, or None if they can."""
    config = variant.config(base)
    try:
        for split in splits:
            moment_sampler(
                config, store.trials.loc[split.trials(store.trials, "train")], store.sfreq
            )
    except SamplingError as error:
        return str(error)
    return None


class AblationTask(Config):
    """Pretrain one variant on one fold, and let a frozen probe predict the fold's held-out trials.

    The last epoch is taken: nothing is chosen on the trials that judge.
    """

    not_identity: ClassVar[frozenset[str]] = frozenset({"workload", "output"})

    workload: Workload
    data: str
    """Identity of the signals, labels and probe."""
    variant: str
    config: PretrainingConfig
    roles: tuple[Role, ...]
    trained: bool
    split: Split
    """Its validation part is held out; its test part stays closed."""
    fold: int
    repeat: int
    seed: int
    output: Path

    def run(self) -> None:
        """Write the predictions of the held-out trials to `output`."""
        torch.set_num_threads(self.workload.threads)
        store, split = self.workload.store(), self.split
        train, held = (split.trials(store.trials, part) for part in ("train", "validation"))
        scale = split.scale_trials(store.trials, final=False)
        open_part = store.restrict(np.unique(np.concatenate([train, held, scale])))
        run = Pretraining(self.config, open_part, split, self.seed)
        diverged = False
        try:
            model = run.run() if self.trained else run.best()
        except DivergedError:
            # The same seed would diverge again. The weights of the step before are judged.
            model, diverged = run.best(), True
        rows = self._predictions(model, run, train, held, scale)
        write_predictions(
            self.output,
            rows.assign(method=self.variant, seed=self.repeat, fold=self.fold, diverged=diverged),
        )

    def _predictions(
        self, model: PhysioSync, run: Pretraining, train: Ints, held: Ints, scale: Ints
    ) -> pd.DataFrame:
        table, labels, probe = run.store.trials, self.workload.labels, self.workload.probe
        n_times, sfreq = model.config.long_times, run.store.sfreq
        modalities = ("eeg", *model.config.pps_channels)
        scale = complete_trials(table, scale, modalities, 1)
        train, held = (
            of_same_people(table, complete_trials(table, trials, modalities, n_times), scale)
            for trials in (train, held)
        )
        if len(train) > probe.max_train_trials:
            rng = np.random.default_rng(probe.seed)
            train = np.sort(rng.choice(train, probe.max_train_trials, replace=False))
        parts = [
            covering_windows(table, ids, n_times=n_times, sfreq=sfreq, seconds=probe.seconds)
            for ids in (train, held)
        ]
        probabilities = predict_trials(
            embedding(model, run.loader, roles=self.roles),
            table,
            *parts,
            labels=labels,
            targets=labels.objective,
            penalty=probe.penalty,
        )
        held_out = parts[1]
        return pd.concat(
            [
                prediction_rows(
                    table, held_out.trials, held_out.starts, target, p, labels=labels, sfreq=sfreq
                )
                for target, p in probabilities.items()
            ],
            ignore_index=True,
        )
