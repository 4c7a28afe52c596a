"""What is searched, and how a point of it becomes a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from physiosync.pretraining import PretrainingConfig

#: The three loss weights always add up to this (AdamW ignores their common scale).
WEIGHT_SUM = 2.0

_MOMENTS = (16, 32, 64)
_GROUP_SIZES = (1, 2, 4)
_LONGEST_LAG = 5

Params = dict[str, Any]


def space(
    base: PretrainingConfig, *, n_subjects: int, n_stimuli: int, seconds: float
) -> dict[str, BaseDistribution]:
    """The distributions of all searched parameters.

    Every point is valid: a long window is a number of short ones, and choices that the data can't
    fill (groups larger than half the subjects, more moments than the clips hold, windows and lags
    that the shortest trial can't hold) are left out, so that all points are scored on the same
    trials. What `base` has is a point of it in any case, for it is tried first.

    Parameters
    ----------
    base : the default configuration; says how windows are paired
    n_subjects, n_stimuli : in the training part; paired by recording, `n_stimuli` are its trials
    seconds : length of the shortest trial
    """
    # A moment of one recording has a neighbouring window beside its own, and no group of people.
    windows, most = (2, 1) if base.pairing == "recording" else (1, n_subjects // 2)
    lag = _clipped(seconds - windows * base.long_seconds, 1, _LONGEST_LAG)
    longest = math.floor((seconds - lag) / windows)
    short = _clipped(longest // 5, 1, 3)
    pieces = _clipped(longest // short, 3, 5)
    moment = windows * short * pieces
    per_stimulus = max(1, 1 + math.floor((seconds - moment - lag) / moment))
    groups = [n for n in _GROUP_SIZES if n <= most] or [_GROUP_SIZES[0]]
    moments = [n for n in _MOMENTS if n <= per_stimulus * n_stimuli] or [_MOMENTS[0]]
    searched: dict[str, BaseDistribution] = {
        "temperature": FloatDistribution(0.05, 0.7, log=True),
        "short_seconds": IntDistribution(1, short),
        "long_pieces": IntDistribution(3, pieces),
        # Two uniform numbers that fold into three weights, flat on the simplex.
        "weight_split": FloatDistribution(0.0, 1.0),
        "weight_share": FloatDistribution(0.0, 1.0),
        "group_size": CategoricalDistribution(groups),
        "lag_skin_seconds": IntDistribution(1, lag),
        "lag_body_seconds": IntDistribution(0, min(3, lag)),
        "noise_snr_db": CategoricalDistribution([None, 0.0, 5.0, 10.0, 15.0, 20.0]),
        "scale_half_width": FloatDistribution(0.0, 0.3),
        "channel_dropout": FloatDistribution(0.0, 0.3),
        "moments": CategoricalDistribution(moments),
        "learning_rate": FloatDistribution(1e-4, 3e-3, log=True),
    }
    default = to_params(base)
    return {name: _with(of, default[name]) for name, of in searched.items()}


def in_words(config: PretrainingConfig, base: PretrainingConfig) -> str:
    """What a configuration has otherwise than `base`: "temperature 0.12, moments 64"."""
    found, default = (
        # Weights as they are used: the numbers that the search draws fold into them.
        {n: v for n, v in to_params(c).items() if not n.startswith("weight_")}
        | {"weight of EEG": c.w_eeg, "of PPS": c.w_pps, "of CM-CA": c.w_cmca}
        for c in (config, base)
    )
    each = []
    for name, value in found.items():
        if value == default[name]:
            continue
        text = "off" if value is None else f"{value:.3g}"
        each.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(each) or "the default"


def _clipped(value: float, low: int, high: int) -> int:
    return min(high, max(low, math.floor(value)))


def _with(distribution: BaseDistribution, value: Any) -> BaseDistribution:
    """The distribution, widened to hold a value: Optuna draws another for one that it lacks."""
    if isinstance(distribution, CategoricalDistribution):
        others = [choice for choice in distribution.choices if choice != value]
        # As it was where it holds the value: a database refuses choices in another order.
        held = len(others) < len(distribution.choices)
        return distribution if held else CategoricalDistribution([value, *others])
    if isinstance(distribution, IntDistribution):
        return IntDistribution(min(distribution.low, value), max(distribution.high, value))
    assert isinstance(distribution, FloatDistribution)
    low, high = min(distribution.low, value), max(distribution.high, value)
    return FloatDistribution(low, high, log=distribution.log)


def of_one_length(base: PretrainingConfig) -> dict[str, BaseDistribution]:
    """What takes the place of window lengths and lags where a trial is one long window of `base`.

    A shorter window would see less of the trial, a longer one or a lag would leave it.
    """
    fixed = {
        "short_seconds": round(base.short_seconds),
        "long_pieces": base.long_pieces,
        "lag_skin_seconds": 0,
        "lag_body_seconds": 0,
    }
    return {name: IntDistribution(value, value) for name, value in fixed.items()}


def weights(split: float, share: float) -> tuple[float, float, float]:
    """(w_eeg, w_pps, w_cmca) from two numbers in 0..1; uniform numbers give a flat simplex.

    `split` decides how much stays within the modalities (its square root, as areas of a triangle
    grow with the square of its height), `share` how much of that is the EEG's.
    """
    within = math.sqrt(split)
    return (
        WEIGHT_SUM * within * share,
        WEIGHT_SUM * within * (1 - share),
        WEIGHT_SUM * (1 - within),
    )


def weight_params(w_eeg: float, w_pps: float, w_cmca: float) -> Params:
    """The inverse of `weights`."""
    within = (w_eeg + w_pps) / (w_eeg + w_pps + w_cmca)
    share = w_eeg / (w_eeg + w_pps) if w_eeg + w_pps else 0.5
    return {"weight_split": within**2, "weight_share": share}


def to_config(params: Mapping[str, Any], base: PretrainingConfig) -> PretrainingConfig:
    """The configuration at a point of the space; all else is `base`'s."""
    w_eeg, w_pps, w_cmca = weights(params["weight_split"], params["weight_share"])
    augmentation = base.augmentation.model_copy(
        update={
            name: params[name] for name in ("scale_half_width", "noise_snr_db", "channel_dropout")
        }
    )
    plain = (
        "temperature",
        "long_pieces",
        "group_size",
        "moments",
        "learning_rate",
    )
    update = {name: params[name] for name in plain} | {
        "short_seconds": float(params["short_seconds"]),
        "lag_skin_seconds": float(params["lag_skin_seconds"]),
        "lag_body_seconds": float(params["lag_body_seconds"]),
        "w_eeg": w_eeg,
        "w_pps": w_pps,
        "w_cmca": w_cmca,
        "augmentation": augmentation.model_dump(),
    }
    # Validated anew: model_copy would let an impossible point through.
    return PretrainingConfig.model_validate(base.model_dump() | update)


def to_params(config: PretrainingConfig) -> Params:
    """The point of the space that `config` stands at."""
    return {
        "temperature": config.temperature,
        "short_seconds": round(config.short_seconds),
        "long_pieces": config.long_pieces,
        **weight_params(config.w_eeg, config.w_pps, config.w_cmca),
        "group_size": config.group_size,
        "lag_skin_seconds": round(config.lag_skin_seconds),
        "lag_body_seconds": round(config.lag_body_seconds),
        "noise_snr_db": config.augmentation.noise_snr_db,
        "scale_half_width": config.augmentation.scale_half_width,
        "channel_dropout": config.augmentation.channel_dropout,
        "moments": config.moments,
        "learning_rate": config.learning_rate,
    }


def first_points(base: PretrainingConfig) -> list[Params]:
    """Points tried before any sampling: the default, and it with each loss alone."""
    default = to_params(base)
    corners = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return [default, *(default | weight_params(*corner) for corner in corners)]
