"""Pairs within one recording, checked against the rules written out slowly."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from physiosync.encoders import EncoderConfig
from physiosync.errors import SamplingError
from physiosync.losses import cm_ca
from physiosync.model_config import ModelConfig
from physiosync.pretraining import PretrainingConfig, moment_sampler
from physiosync.pretraining_net import PretrainingNet
from physiosync.recording_sampling import RecordingSampler
from physiosync.sampling import Batch


def _table(lengths: list[int]) -> pd.DataFrame:
    rows = [
        {"subject": f"s{k // 2}", "stimulus": f"own-{k}", "n_times": n}
        for k, n in enumerate(lengths)
    ]
    return pd.DataFrame(rows, index=np.arange(len(rows)) * 3 + 11)


def assert_obeys_the_rules(
    batch: Batch, table: pd.DataFrame, *, n_times: int, reach: int, gap: int, shuffled: bool
) -> None:
    """One window after the other."""
    seen: list[tuple[int, int, int]] = []
    for moment, (trials, starts, pps) in enumerate(
        zip(batch.trials[..., 0], batch.starts[..., 0], batch.pps_starts[..., 0], strict=True)
    ):
        assert trials[0] == trials[1], "a moment is one recording"
        assert abs(starts[0] - starts[1]) == n_times, "neighbours touch and share no sample"
        assert starts[0] - starts[1] == pps[0] - pps[1], "so do those of the PPS, in step"
        for start in (*starts, *pps):
            assert start >= 0
            assert start + reach <= table["n_times"][trials[0]]
        for e in starts:
            for p in pps:
                if shuffled:
                    assert abs(e - p) >= gap, "PPS of another time"
        if not shuffled:
            assert starts.tolist() == pps.tolist()
        for trial, start, other in seen:
            assert (
                other == moment
                or trial != trials[0]
                or all(abs(start - mine) >= gap for mine in starts)
            )
        seen += [(trials[0], int(start), moment) for start in starts]


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(20, 1200), min_size=1, max_size=6),
    moments=st.integers(1, 15),
    n_times=st.integers(10, 150),
    lag=st.integers(0, 50),
    gap=st.integers(0, 250),
    shuffled=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_batch_obeys_the_rules(
    lengths: list[int],
    moments: int,
    n_times: int,
    lag: int,
    gap: int,
    shuffled: bool,
    seed: int,
) -> None:
    table = _table(lengths)
    try:
        sampler = RecordingSampler(
            table,
            n_times=n_times,
            reach=n_times + lag,
            gap=gap,
            moments=moments,
            n_pieces=3,
            pairs="shuffled" if shuffled else "matched",
        )
    except SamplingError:
        return
    rng = np.random.default_rng(seed)
    for _ in range(3):
        batch = sampler.draw(rng)
        assert batch.trials.shape == batch.starts.shape == (moments, 2, 1)
        assert set(batch.pieces) <= {0, 1, 2}
        assert_obeys_the_rules(
            batch,
            table,
            n_times=n_times,
            reach=n_times + lag,
            gap=max(gap, n_times),
            shuffled=shuffled,
        )


def _sampler(table: pd.DataFrame, **options: object) -> RecordingSampler:
    defaults = {"n_times": 100, "reach": 120, "gap": 200, "moments": 4}
    return RecordingSampler(table, **(defaults | options))  # type: ignore[arg-type]


def test_same_seed_same_batch_and_both_orders_come_up() -> None:
    sampler = _sampler(_table([1000] * 4))
    one, two = (sampler.draw(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.starts, two.starts)
    rng = np.random.default_rng(0)
    starts = np.concatenate([sampler.draw(rng).starts[..., 0] for _ in range(100)])
    assert 0.4 < np.mean(starts[:, 0] < starts[:, 1]) < 0.6


def test_pairs_with_oneself_are_one_window_with_its_own_pps() -> None:
    sampler, rng = _sampler(_table([1000] * 4), pairs="self"), np.random.default_rng(0)
    starts = []
    for _ in range(100):
        batch = sampler.draw(rng)
        np.testing.assert_array_equal(batch.trials[:, 0], batch.trials[:, 1])
        np.testing.assert_array_equal(batch.starts[:, 0], batch.starts[:, 1])
        np.testing.assert_array_equal(batch.starts, batch.pps_starts)
        for trial in np.unique(batch.trials):
            mine = np.sort(batch.starts[batch.trials[:, 0, 0] == trial, 0, 0])
            assert (np.diff(mine) >= 200).all()
        starts.append(batch.starts)
    assert np.min(starts) < 30
    assert np.max(starts) > 1000 - 120 - 30


def test_all_trials_and_times_come_up() -> None:
    table = _table([1000, 400, 700])
    rng = np.random.default_rng(0)
    batches = [_sampler(table).draw(rng) for _ in range(300)]
    trials = np.concatenate([b.trials.ravel() for b in batches])
    starts = np.concatenate([b.starts.ravel() for b in batches])
    for trial, n_times in table["n_times"].items():
        mine = starts[trials == trial]
        assert mine.min() < 30
        assert mine.max() > n_times - 120 - 30


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([219, 100], {}, "trials of at least 220 samples .* found at most 219"),
        ([600], {"pairs": "shuffled"}, "trials of at least 820 samples"),
        ([1000], {"moments": 4}, "room for 4 moments .* at least 300 samples apart, found 3"),
    ],
)
def test_too_little_data_says_so(
    lengths: list[int], options: dict[str, object], message: str
) -> None:
    with pytest.raises(SamplingError, match=message):
        _sampler(_table(lengths), **options)


def test_a_configuration_chooses_the_sampler_and_allows_no_groups() -> None:
    config = PretrainingConfig(pps=("ecg",), pairing="recording", moments=2)
    table = _table([128 * 60] * 2).assign(has_eeg=True, has_ecg=True)
    assert isinstance(moment_sampler(config, table, 128.0), RecordingSampler)
    with pytest.raises(ValidationError, match="group_size must be 1"):
        PretrainingConfig(pairing="recording", group_size=2)


def test_eeg_is_aligned_with_the_pps_of_its_own_time() -> None:
    """Paired by stimulus it is the other group's; here the other group is another time."""
    config = ModelConfig(
        encoder=EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8),
        sfreq=64.0,
        eeg_channels=("E0", "E1"),
        pps_channels={"ecg": ("ECG",)},
        pps_lag_seconds={"ecg": 0.0},
        short_seconds=1.0,
        long_pieces=2,
        scaling="robust",
        pairing="recording",
    )
    torch.manual_seed(0)
    net = PretrainingNet(config).eval()
    eeg, pps = torch.randn(6, 2, 1, 2, 128), torch.randn(6, 2, 1, 1, 128)
    found = net.losses("long", eeg, pps, 0.3).cmca
    e, p = (
        net.model.encode(role, "long", x.flatten(0, 2)).reshape(6, 2, -1)
        for role, x in (("eeg", eeg), ("pps", pps))
    )
    own = cm_ca(e[:, 0], e[:, 1], p[:, 1], p[:, 0], net.cmca["long"], 0.3)
    across = cm_ca(e[:, 0], e[:, 1], p[:, 0], p[:, 1], net.cmca["long"], 0.3)
    torch.testing.assert_close(found, own)
    assert not torch.isclose(own, across)
