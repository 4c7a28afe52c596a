"""The paper's results as published (arXiv 2504.17163), and what has to be known to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: "within" pools everyone and shuffles windows; it is our protocol "window".
PublishedProtocol = Literal["within", "cross-subject"]

PAPER = "arXiv 2504.17163"


@dataclass(frozen=True)
class Published:
    """One published score.

    Parameters
    ----------
    dataset : as shards name it
    accuracy, sd, f1 : in %; None where the paper gives none
    source : where it was published
    """

    dataset: str
    protocol: PublishedProtocol
    target: str
    method: str
    accuracy: float
    sd: float | None
    f1: float | None
    source: str = PAPER


_WITHIN: PublishedProtocol = "within"
_CROSS: PublishedProtocol = "cross-subject"
_RERUN = f"{PAPER}, which ran it again"

RESULTS = (
    Published("deap", _WITHIN, "arousal", "PhysioSync", 98.35, 0.41, 98.61),
    Published("deap", _WITHIN, "arousal", "SimCLR", 92.25, None, None, _RERUN),
    Published("deap", _WITHIN, "arousal", "SGMC", 95.01, None, None, _RERUN),
    Published("deap", _WITHIN, "valence", "PhysioSync", 98.17, 0.59, 98.40),
    Published("deap", _WITHIN, "valence", "SimCLR", 91.39, None, None, _RERUN),
    Published("deap", _WITHIN, "valence", "SGMC", 94.56, None, None, _RERUN),
    Published("deap", _WITHIN, "quadrant", "PhysioSync", 97.99, 0.49, 97.99),
    Published("dreamer", _WITHIN, "arousal", "PhysioSync", 97.01, 0.31, 97.55),
    Published("dreamer", _WITHIN, "valence", "PhysioSync", 96.11, 0.32, 96.89),
    Published("dreamer", _WITHIN, "quadrant", "PhysioSync", 94.70, 0.25, 94.69),
    Published("deap", _CROSS, "arousal", "PhysioSync", 65.46, 8.15, 64.33),
    Published("deap", _CROSS, "valence", "PhysioSync", 64.79, 7.24, 64.10),
    Published("dreamer", _CROSS, "arousal", "PhysioSync", 64.88, 8.06, 65.89),
    Published("dreamer", _CROSS, "valence", "PhysioSync", 63.24, 8.56, 62.57),
)

#: Our protocol -> the published one that asks the same.
COUNTERPARTS: dict[str, PublishedProtocol] = {"window": _WITHIN, "subject": _CROSS}

#: (dataset or "" for all, protocol) -> what is known of how these were obtained.
NOTES: dict[tuple[str, PublishedProtocol], tuple[str, ...]] = {
    ("", _WITHIN): (
        "LEAKY: all people in one classifier, windows shuffled. 97 % of the 5 s test windows have "
        "a neighbour of the same trial in training, so such a score says nothing of new trials.",
    ),
    ("", _CROSS): (
        "The released scripts choose the epoch on the test fold, and pair people by batch position "
        "after a shuffle.",
    ),
    ("deap", _CROSS): (
        "They pretrain in 32 folds, fine-tune in 10, and look checkpoints up by the fold's number.",
    ),
    ("dreamer", _CROSS): (
        "Always answering the more frequent class of DREAMER's arousal is right in about 70 %.",
    ),
}

#: What others measured, to hold any of these numbers against.
CONTEXT = (
    "EEGain (arXiv 2505.18175), one person left out, with a validation split: deep models reach 53 "
    "to 57 % on DEAP's arousal, the trivial baseline 59 %.",
    "A review of 101 studies of DEAP (arXiv 2508.02417) finds errors of method in about 87 % of "
    "them, worth up to 46 points.",
)
