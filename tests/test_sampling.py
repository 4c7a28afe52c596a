import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physiosync.errors import SamplingError
from physiosync.sampling import Batch, MomentSampler


def _table(n_subjects: int, n_stimuli: int, n_times: int = 1000, missing: int = 0) -> pd.DataFrame:
    rows = [
        {"subject": f"s{s}", "stimulus": f"v{k}", "n_times": n_times + 7 * s}
        for s in range(n_subjects)
        for k in range(n_stimuli)
    ]
    table = pd.DataFrame(rows, index=np.arange(len(rows)) * 3 + 11)
    return table.drop(index=table.index[:missing])


def assert_obeys_the_rules(batch: Batch, table: pd.DataFrame, gap: int, reach: int) -> None:
    """The rules, written out slowly: one moment after the other."""
    seen: list[tuple[str, int]] = []
    for trials, starts in zip(batch.trials, batch.starts, strict=True):
        rows = table.loc[trials.ravel()]
        assert len(set(rows["stimulus"])) == 1, "a moment is one stimulus"
        assert rows["subject"].is_unique, "never one subject twice"
        assert len(set(starts.ravel())) == 1, "everybody is seen at the same time"
        stimulus, start = rows["stimulus"].iloc[0], int(starts[0, 0])
        assert start >= 0
        assert (start + reach <= rows["n_times"]).all()
        for other, when in seen:
            assert other != stimulus or abs(when - start) >= gap
        seen.append((stimulus, start))


@settings(max_examples=60, deadline=None)
@given(
    n_subjects=st.integers(2, 9),
    n_stimuli=st.integers(1, 6),
    group_size=st.integers(1, 4),
    moments=st.integers(1, 20),
    n_times=st.integers(10, 200),
    lag=st.integers(0, 50),
    gap=st.integers(0, 300),
    missing=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_every_batch_obeys_the_rules(
    n_subjects: int,
    n_stimuli: int,
    group_size: int,
    moments: int,
    n_times: int,
    lag: int,
    gap: int,
    missing: int,
    seed: int,
) -> None:
    table = _table(n_subjects, n_stimuli, missing=missing)
    try:
        sampler = MomentSampler(
            table,
            n_times=n_times,
            reach=n_times + lag,
            gap=gap,
            moments=moments,
            group_size=group_size,
            n_pieces=3,
        )
    except SamplingError:
        return
    rng = np.random.default_rng(seed)
    for _ in range(3):
        batch = sampler.draw(rng)
        assert batch.trials.shape == batch.starts.shape == (moments, 2, group_size)
        assert set(batch.pieces) <= {0, 1, 2}
        assert_obeys_the_rules(batch, table, max(gap, n_times), n_times + lag)


def _sampler(table: pd.DataFrame, **options: object) -> MomentSampler:
    defaults = {"n_times": 100, "reach": 120, "gap": 200, "moments": 8, "group_size": 2}
    return MomentSampler(table, **(defaults | options))  # type: ignore[arg-type]


def test_same_seed_same_batch() -> None:
    sampler = _sampler(_table(6, 5))
    one, two = (sampler.draw(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.trials, two.trials)
    np.testing.assert_array_equal(one.starts, two.starts)


def test_all_subjects_stimuli_and_times_come_up() -> None:
    table = _table(6, 5)
    sampler = _sampler(table)
    rng = np.random.default_rng(0)
    batches = [sampler.draw(rng) for _ in range(200)]
    assert set(np.concatenate([b.trials.ravel() for b in batches])) == set(table.index)
    starts = np.concatenate([b.starts.ravel() for b in batches])
    assert starts.min() < 20
    assert starts.max() > 1000 - 120 - 20


def test_stimuli_missing_for_some_pair_those_present() -> None:
    table = _table(4, 2)
    table = table[(table["stimulus"] == "v0") | (table["subject"] != "s3")]
    sampler = _sampler(table, moments=2)
    used = table.loc[sampler.draw(np.random.default_rng(0)).trials.ravel(), "stimulus"]
    assert set(used) == {"v0"}, "three people can't make two groups of two"


def test_shuffled_pairs_share_neither_stimulus_nor_time_and_never_a_person() -> None:
    table = _table(8, 30)
    sampler = _sampler(table, pairs="shuffled")
    rng = np.random.default_rng(0)
    together = n = 0
    for _ in range(50):
        batch = sampler.draw(rng)
        for trials, starts in zip(batch.trials, batch.starts, strict=True):
            rows = table.loc[trials.ravel()]
            assert rows["subject"].is_unique
            assert (starts.ravel() + 120 <= rows["n_times"]).all()
            stimuli, when = rows["stimulus"].to_numpy(), starts.ravel()
            # Members of one group are pooled, so they must not share a moment either.
            for i in range(4):
                for j in range(i):
                    n += 1
                    together += stimuli[i] == stimuli[j] and abs(when[i] - when[j]) < 100
    # By chance: one in 30 stimuli, and a fifth of the starts lie that close.
    assert together / n < 0.02


def test_pairs_with_oneself_are_the_same_windows_of_the_same_people_as_the_first_group() -> None:
    """The control differs from the matched pairs in nothing but the second group."""
    table = _table(6, 5)
    control, matched = _sampler(table, pairs="self"), _sampler(table)
    for seed in range(20):
        mine, theirs = (s.draw(np.random.default_rng(seed)) for s in (control, matched))
        for moment in range(len(mine.trials)):
            for member in range(2):
                assert mine.trials[moment, 0, member] == mine.trials[moment, 1, member]
                assert mine.starts[moment, 0, member] == mine.starts[moment, 1, member]
        np.testing.assert_array_equal(mine.trials[:, 0], theirs.trials[:, 0])
        np.testing.assert_array_equal(mine.starts, theirs.starts)
        np.testing.assert_array_equal(mine.pps_starts, theirs.pps_starts)


def test_an_unknown_kind_of_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs must be one of .*'self'.*, but got 'other'"):
        _sampler(_table(6, 5), pairs="other")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (_table(3, 5), {}, "at least 4 subjects .* found at most 3"),
        (_table(6, 5), {"moments": 40}, "room for 40 moments .* found 25"),
        (_table(6, 5, n_times=60), {}, "trials of at least 120 samples"),
    ],
)
def test_too_little_data_says_so(
    table: pd.DataFrame, options: dict[str, int], message: str
) -> None:
    with pytest.raises(SamplingError, match=message):
        _sampler(table, **options)
