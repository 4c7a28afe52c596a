"""Trials of a made-up cohort, as splits see them."""

import pandas as pd


def trial_table(n_subjects: int = 10, n_stimuli: int = 20) -> pd.DataFrame:
    """Columns "subject" and "stimulus", a row a trial."""
    rows = [
        {"subject": f"s{s}", "stimulus": f"v{k:02d}"}
        for s in range(n_subjects)
        for k in range(n_stimuli)
        if (s, k) != (1, 3)  # one trial was never recorded
    ]
    return pd.DataFrame(rows)
