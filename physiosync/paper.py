"""What the paper fixes, for `--preset paper`: PhysioSync (arXiv 2504.17163), DEAP, within subjects.

`studies/deap.py --preset paper --protocol window --pooled` is its configuration: 32 EEG channels
and skin conductance, the baseline template subtracted, shuffled windows of 5 s and 1 s; pretraining
on batches of 8 moments x 2 groups x 2 people for 500 epochs by Adam; one classifier for all people.

Where this differs on purpose, because the released scripts are wrong or can't be meant so:

* one shuffle of 5 s stretches, obeyed by both window lengths and every stage. Theirs shuffles the
  1 s windows anew, so that most pieces of a test window were pretrained on
* the epoch that is kept is chosen on a validation part, a tenth of all; theirs is the last one,
  whatever the test fold said. So eight tenths are pretrained on instead of nine
* the learning rate rises shortly and falls once, to a tenth, over the whole run, and gradients are
  clipped. Theirs begins fine-tuning anew at full rate after every third of it, the last included
* a window is one of its six augmented views at random. In theirs all six are in one batch, where
  they are each other's negatives, and make it six times as large
* skin conductance is standardised in each window; theirs enters a sigmoid as it was recorded
* as in theirs, stretches of one clip may be each other's negatives: `gap_seconds` is for trials
* two disjoint groups are drawn anew for each moment; theirs draws with replacement from two fixed
  halves of the people
* all targets share one fine-tuned encoder, with a classifier each; dropout is off in evaluation
"""

from __future__ import annotations

from typing import Any

from physiosync.augmentation import AugmentationConfig
from physiosync.encoders import EncoderConfig
from physiosync.finetuning import FinetuningConfig
from physiosync.pretraining import PretrainingConfig

#: Moments of DEAP's 40 clips of 60 s, and how many of ten folds are trained on.
_MOMENTS, _TRAINED = 40 * 12, 0.9

#: Defaults of a study with `--preset paper`. An epoch is once through the training moments, each
#: seen by 2 groups of 2 people for 5 s: 54 batches.
STUDY: dict[str, Any] = {
    "preset": "paper",
    "pps": ("gsr",),
    "max_epochs": 500,
    "epoch_seconds": _MOMENTS * _TRAINED * 2 * 2 * 5,
    "finetune_epochs": 6,
}
#: The same under `--protocol window`: ten folds, and one configuration instead of a search.
SHUFFLED: dict[str, Any] = {
    "protocol": "window",
    "folds": 10,
    "test_share": 0.1,
    "validation_share": 0.1,
    "trials": 1,
    "finalists": 1,
    "finalist_folds": 1,
    "promote": 1,
}


def pretraining(**given: Any) -> PretrainingConfig:
    """The paper's pretraining.

    Parameters
    ----------
    given : what a study decides: "pps", "epochs", "epoch_seconds", "pairing"
    """
    return PretrainingConfig(
        **given,
        encoder=EncoderConfig.paper(),
        scaling="paper",
        temperature=0.1,
        short_seconds=1.0,
        long_pieces=5,
        w_eeg=0.5,
        w_pps=0.5,
        w_cmca=1.0,
        moments=8,
        group_size=1 if given.get("pairing") == "recording" else 2,
        lag_skin_seconds=0,
        lag_body_seconds=0,
        learning_rate=7e-4,
        weight_decay=1e-3,
        optimiser="adam",
        augmentation=AugmentationConfig(recipe="paper"),
    )


def finetuning(**given: Any) -> FinetuningConfig:
    """The paper's fine-tuning: everything at once from a fresh classifier on, at one rate.

    Without weight decay AdamW is Adam. Windows of a trial are drawn at random places, as many as
    fit; theirs lie on a grid, as they do in protocol "window".

    Parameters
    ----------
    given : what a study decides: "epochs", "windows_per_trial"
    """
    return FinetuningConfig(
        **({"windows_per_trial": 12} | given),
        head_epochs=0,
        batch_size=256,
        learning_rate=1e-3,
        encoder_learning_rate=1e-3,
        weight_decay=0.0,
        augmentation=AugmentationConfig(scale_half_width=0.0),
    )
