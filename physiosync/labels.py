"""From ratings to classes: one rule, used by every stage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from physiosync.config import Config


class Labels(Config):
    """What a study predicts."""

    targets: dict[str, int] = Field(
        default={"arousal": 2, "valence": 2, "quadrant": 4}, min_length=1
    )
    """Target -> number of classes."""
    threshold: float | None = 5.0
    """A rating at or above it is high. None: a target's column holds its class, from 0."""

    @property
    def objective(self) -> tuple[str, ...]:
        """What encoders are chosen by.

        Not the quadrant: it restates the two binary targets and has another chance level.
        """
        return tuple(target for target in self.targets if not self._is_quadrant(target))

    @property
    def ratings(self) -> tuple[str, ...]:
        """The targets that are ratings with a threshold; none where targets are classes."""
        return self.objective if self.threshold is not None else ()

    def classes(self, trials: pd.DataFrame, target: str) -> pd.Series[int]:
        """Class of every trial; -1 where the rating is missing.

        A rating on the threshold is high, for the binary targets and for the quadrants alike, so
        that the two can never disagree.

        Parameters
        ----------
        trials : has a column for the target; for the quadrant "arousal" and "valence"
        target : one of `targets`. With a threshold 0 is low and 1 high; "quadrant" is 0 for high
            arousal and high valence, 1 high/low, 2 low/high, 3 low/low

        Raises
        ------
        ValueError
            If the target is unknown, its column is missing, or a class is none of its.
        """
        if target not in self.targets:
            raise ValueError(f"target must be one of {tuple(self.targets)}, but got {target!r}")
        if self._is_quadrant(target):
            arousal, valence = (self._column(trials, name) for name in ("arousal", "valence"))
            quadrant = 2 * (1 - arousal) + (1 - valence)
            found = np.where((arousal < 0) | (valence < 0), -1, quadrant)
        else:
            found = self._column(trials, target)
        return pd.Series(found, index=trials.index, dtype=np.int64)

    def _is_quadrant(self, target: str) -> bool:
        return target == "quadrant" and self.threshold is not None

    def _column(self, trials: pd.DataFrame, name: str) -> NDArray[np.int64]:
        if name not in trials:
            held = ", ".join(map(str, trials.columns))
            raise ValueError(f"trials must have a rating {name!r}, but got {held}")
        values = trials[name].to_numpy(dtype=np.float64)
        missing = np.isnan(values)
        if self.threshold is not None:
            return np.where(missing, -1, (values >= self.threshold).astype(np.int64))
        n_classes = self.targets[name]
        wrong = ~missing & ~np.isin(values, np.arange(n_classes))
        if wrong.any():
            raise ValueError(
                f"classes of {name!r} must be whole numbers from 0 to {n_classes - 1}, "
                f"but got {values[wrong][0]:g}"
            )
        return np.where(missing, -1, values).astype(np.int64)
