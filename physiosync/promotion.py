"""From the search to a few encoders: who is a finalist, and who wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from physiosync.pretraining import PretrainingConfig
from physiosync.space import to_config


def finalists(
    trials: Sequence[FrozenTrial], base: PretrainingConfig, n: int
) -> list[PretrainingConfig]:
    """The default configuration, as a control, and the `n - 1` best others, all distinct.

    Trials that ran to the end come before those that were stopped early: a value that was cut off
    at the first rung says less.
    """
    scored = [t for t in trials if t.value is not None and np.isfinite(t.value)]
    scored.sort(key=lambda t: (t.state == TrialState.COMPLETE, t.value, -t.number), reverse=True)
    chosen = {base.uid(): base}
    for trial in scored:
        if len(chosen) >= n:
            break
        config = to_config(trial.params, base)
        chosen.setdefault(config.uid(), config)
    return list(chosen.values())


def one_standard_error(scores: pd.DataFrame, cost: Mapping[str, float]) -> pd.DataFrame:
    """Rank configurations: the cheapest of those as good as the best comes first.

    A configuration is as good as the best if its mean lies within one standard error of the best's
    mean (Breiman et al. 1984, section 3.4.3); the others follow by their means.

    Parameters
    ----------
    scores : a row a run, with "configuration" and "score"
    cost : configuration -> what it costs; the default has 0, so it wins whatever is not better

    Returns
    -------
    Index: configuration, best first; columns "mean", "standard_error", "runs", "within".
    """
    groups = scores.groupby("configuration")["score"]
    table = pd.DataFrame({"mean": groups.mean(), "runs": groups.size()})
    table["standard_error"] = groups.std(ddof=1).fillna(0.0) / np.sqrt(table["runs"])
    best = table["mean"].idxmax()
    table["within"] = table["mean"] >= table["mean"][best] - table["standard_error"][best]
    table["cost"] = pd.Series(cost).reindex(table.index)
    candidates = table[table["within"]].sort_values(["cost", "mean"], ascending=[True, False])
    winner = candidates.index[0]
    rest = table.drop(winner).sort_values("mean", ascending=False)
    return pd.concat([table.loc[[winner]], rest]).drop(columns="cost")


def result_in_words(row: pd.Series[float]) -> str:
    """A row of `one_standard_error`: "0.312 +- 0.020 (3 runs)"; one run has no standard error."""
    if row["runs"] == 1:
        return f"{row['mean']:.3f} (one run)"
    return f"{row['mean']:.3f} +- {row['standard_error']:.3f} ({row['runs']:.0f} runs)"


def signal_per_step(config: PretrainingConfig) -> float:
    """Seconds of signal in a batch: what a configuration asks of memory and compute."""
    return config.moments * 2 * config.group_size * config.long_seconds
