"""From samples to what an encoder sees: the scale, the lag, and the disturbed copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from physiosync.augmentation import AugmentationConfig, augment
from physiosync.loading import Loader
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.scaling import CLIP, Scaling, fit_scaling, robust_scale
from physiosync.shards import write_shard
from physiosync.windows import ClosedTrialError, WindowStore

SFREQ = 32.0
N_TIMES = 320
#: Trials of s1 are 0 to 2, of s2 3 to 5; s2 is 40 times as loud.
GAIN = {"s1": 1.0, "s2": 40.0}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    """EEG of three channels (the last one constant), GSR of two, respiration of one."""
    folder = tmp_path_factory.mktemp("small")
    for subject, gain in GAIN.items():
        rng = np.random.default_rng(list(subject.encode()))
        trials = []
        for k in range(3):
            eeg = gain * (rng.standard_normal((3, N_TIMES)) + np.array([[5], [-3], [0]]) + k)
            eeg[2] = 7.0
            time = np.arange(N_TIMES, dtype=np.float64)
            trials.append(
                Trial(
                    stimulus=f"v{k}",
                    order=k + 1,
                    signals={
                        "eeg": eeg.astype(np.float32),
                        "gsr": np.stack([time, 1000 + time]).astype(np.float32),
                        "resp": (5000 + time)[None].astype(np.float32),
                    },
                    baseline={},
                    ratings={},
                )
            )
        recording = Recording(
            dataset="made-up",
            subject=subject,
            modalities={
                "eeg": Channels(("A", "B", "C"), "uV", SFREQ),
                "gsr": Channels(("L", "R"), "log10(uS)", SFREQ),
                "resp": Channels(("RESP",), "a.u.", SFREQ),
            },
            trials=tuple(trials),
            source=Path(f"{subject}.made-up"),
            fingerprint=subject,
        )
        write_shard(recording, folder / "shards", PreprocessingConfig())
    return WindowStore.open(folder / "shards", ("eeg", "gsr", "resp"), folder / "cache")


def whole(store: WindowStore, trials: list[int], modality: str = "eeg") -> np.ndarray:
    return np.stack([store.read(modality, t) for t in trials])


# ---- the scale


def test_robust_scale_against_percentiles() -> None:
    x = np.random.default_rng(0).standard_normal((4000, 3)) * [1, 50, 0.01] + [0, -300, 2]
    centre, spread = robust_scale(x)
    np.testing.assert_allclose(centre, np.median(x, axis=0), rtol=1e-5)
    iqr = np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0)
    np.testing.assert_allclose(spread, iqr / 1.349, rtol=1e-5)
    np.testing.assert_allclose(spread, [1, 50, 0.01], rtol=0.05)


def test_each_person_and_channel_has_a_scale(small: WindowStore) -> None:
    train = [0, 1, 3, 4]
    scaling = fit_scaling(small, train, ["eeg"], "robust")
    trials = np.array([0, 2, 5])
    x = scaling.apply(whole(small, [0, 2, 5]), "eeg", trials)
    for row, trial in enumerate(trials):
        mine = [t for t in train if (t < 3) == (trial < 3)]
        centre, spread = robust_scale(np.concatenate([small.read("eeg", t) for t in mine]))
        expected = (small.read("eeg", int(trial)) - centre) / spread
        np.testing.assert_allclose(x[row], np.clip(expected, -CLIP, CLIP), atol=1e-4)


def test_a_constant_channel_becomes_zero(small: WindowStore) -> None:
    scaling = fit_scaling(small, [0, 1, 2], ["eeg"], "robust")
    x = scaling.apply(whole(small, [0]), "eeg", np.array([0]))
    assert (x[..., 2] == 0).all()
    assert np.isfinite(x).all()


def test_only_the_given_trials_are_read(small: WindowStore) -> None:
    open_part = small.restrict([0, 1])
    narrow = fit_scaling(open_part, [0, 1], ["eeg", "gsr"], "robust")
    wide = fit_scaling(small, [0, 1], ["eeg", "gsr"], "robust")
    for modality in ("eeg", "gsr"):
        n = len(narrow.centre[modality])
        np.testing.assert_array_equal(narrow.centre[modality], wide.centre[modality][:n])
        np.testing.assert_array_equal(narrow.spread[modality], wide.spread[modality][:n])
    with pytest.raises((ClosedTrialError, KeyError)):
        fit_scaling(open_part, [0, 1, 2], ["eeg"], "robust")
    other = fit_scaling(small, [2], ["eeg"], "robust")
    assert not np.allclose(other.centre["eeg"][0, 0], wide.centre["eeg"][0, 0], atol=0.5)


def test_a_person_without_training_trials_gives_nan_at_once(small: WindowStore) -> None:
    scaling = fit_scaling(small, [0, 1, 2], ["eeg"], "robust")
    x = scaling.apply(whole(small, [0, 4]), "eeg", np.array([0, 4]))
    assert np.isfinite(x[0]).all()
    assert np.isnan(x[1]).all()


def test_far_values_are_cut_and_the_sign_stays() -> None:
    one = np.ones((1, 1), dtype=np.float32)
    scaling = Scaling("robust", {"eeg": one}, {"eeg": 2 * one})
    x = np.array([-1e6, -14.9, 1, 16.9, 1e6, np.inf], dtype=np.float32).reshape(1, 6, 1)
    found = scaling.apply(x, "eeg", np.array([0]))
    np.testing.assert_allclose(found.ravel(), [-CLIP, -7.95, 0, 7.95, CLIP, CLIP])


def test_the_papers_scale_goes_across_channels_for_eeg_and_along_time_else() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50, 3)).astype(np.float32) * 20 + 100
    scaling = Scaling("paper", {}, {})
    trials = np.arange(4)
    eeg = scaling.apply(x.copy(), "eeg", trials)
    np.testing.assert_allclose(eeg.mean(axis=2), 0, atol=1e-4)
    np.testing.assert_allclose(eeg.std(axis=2), 1, atol=1e-3)
    gsr = scaling.apply(x.copy(), "gsr", trials)
    np.testing.assert_allclose(gsr.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(gsr.std(axis=1), 1, atol=1e-3)


def test_the_papers_scale_reads_nothing(small: WindowStore) -> None:
    scaling = fit_scaling(small.restrict([]), [], ["eeg"], "paper")
    flat = scaling.apply(np.full((1, 10, 3), 5, dtype=np.float32), "gsr", np.array([5]))
    np.testing.assert_array_equal(flat, 0)


# ---- windows with a lag


def untouched(store: WindowStore) -> Scaling:
    """A scale that changes nothing but the cut: the ramps below stay readable by `* 1000`."""
    table = store.trials
    zero = {m: np.zeros((len(table), c)) for m, c in (("eeg", 3), ("gsr", 2), ("resp", 1))}
    return Scaling(
        "robust",
        {m: x.astype(np.float32) for m, x in zero.items()},
        {m: (x + 1000).astype(np.float32) for m, x in zero.items()},
    )


def test_each_modality_follows_by_its_own_lag(small: WindowStore) -> None:
    loader = Loader(small, untouched(small), {"gsr": 40, "resp": 7})
    starts = np.array([0, 100])
    x = loader.pps(np.array([1, 4]), starts, 64)
    assert x.shape == (2, 3, 64)
    assert x.dtype == torch.float32
    for row, start in enumerate(starts):
        gsr = np.arange(start + 40, start + 40 + 64)
        resp = 5000 + np.arange(start + 7, start + 7 + 64)
        expected = np.stack([gsr, 1000 + gsr, resp]) / 1000
        np.testing.assert_allclose(x[row], expected, rtol=1e-6)


def test_modalities_are_joined_in_the_order_of_the_lags(small: WindowStore) -> None:
    trials, starts = np.array([0]), np.array([3])
    one = Loader(small, untouched(small), {"gsr": 4, "resp": 8}).pps(trials, starts, 32)
    two = Loader(small, untouched(small), {"resp": 8, "gsr": 4}).pps(trials, starts, 32)
    assert torch.equal(one[:, [2, 0, 1]], two)


def test_the_lag_shrinks_where_the_trial_ends(small: WindowStore) -> None:
    loader = Loader(small, untouched(small), {"gsr": 40, "resp": 0})
    starts = np.array([N_TIMES - 64, N_TIMES - 64 - 10])
    x = loader.pps(np.array([0, 0]), starts, 64) * 1000
    assert x[:, 0, 0].tolist() == [N_TIMES - 64] * 2
    assert x[:, 2, 0].tolist() == pytest.approx([5000 + s for s in starts])


def test_eeg_has_no_lag_and_its_channels_come_first(small: WindowStore) -> None:
    scaling = fit_scaling(small, range(6), ["eeg"], "robust")
    x = Loader(small, scaling, {"gsr": 40}).eeg(np.array([2, 5]), np.array([10, 20]), 64)
    assert x.shape == (2, 3, 64)
    for row, (trial, start) in enumerate(((2, 10), (5, 20))):
        raw = small.read("eeg", trial, start, start + 64)[None]
        expected = scaling.apply(raw, "eeg", np.array([trial]))[0].T
        np.testing.assert_array_equal(x[row], expected)


# ---- augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(b: int, c: int, t: int, seed: int = 9) -> Tensor:
    return torch.randn((b, c, t), generator=generator(seed))


NOTHING = AugmentationConfig(scale_half_width=0, noise_snr_db=None, channel_dropout=0)


@pytest.mark.parametrize(
    "config",
    [
        AugmentationConfig(),
        AugmentationConfig(recipe="paper"),
        NOTHING,
        NOTHING.model_copy(update={"scale_half_width": 0.3}),
        NOTHING.model_copy(update={"noise_snr_db": 3.0}),
        NOTHING.model_copy(update={"channel_dropout": 0.5}),
    ],
)
def test_the_input_stays_and_the_seed_decides(config: AugmentationConfig) -> None:
    x = noise(16, 4, 64)
    before = x.clone()
    one = augment(x, config, generator(1))
    assert one.shape == x.shape
    assert torch.equal(x, before)
    assert torch.equal(one, augment(x, config, generator(1)))
    assert config is NOTHING or not torch.equal(one, augment(x, config, generator(2)))
    one.zero_()
    assert torch.equal(x, before), "the result shares no memory with the input"


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    x = noise(4, 3, 100_000) * torch.tensor([1.0, 20.0, 0.05])[:, None] + 3
    for snr_db in (0.0, 10.0, 20.0):
        config = NOTHING.model_copy(update={"noise_snr_db": snr_db})
        added = augment(x, config, generator()) - x
        ratio = x.var(dim=2) / added.var(dim=2)
        torch.testing.assert_close(
            ratio, torch.full_like(ratio, 10 ** (snr_db / 10)), rtol=0.05, atol=0
        )
        assert added.mean(dim=2).abs().max() < 0.02 * x.std()


def test_one_factor_a_window_within_its_range() -> None:
    config = NOTHING.model_copy(update={"scale_half_width": 0.3})
    x = noise(4000, 2, 8)
    factors = augment(x, config, generator()) / x
    torch.testing.assert_close(factors, factors[:, :1, :1].expand_as(factors))
    drawn = factors[:, 0, 0]
    assert 0.7 <= drawn.min() < 0.71
    assert 1.29 < drawn.max() <= 1.3
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.01)


def test_whole_channels_drop_at_their_share() -> None:
    config = NOTHING.model_copy(update={"channel_dropout": 0.2})
    x = noise(3000, 8, 4)
    out = augment(x, config, generator())
    dropped = (out == 0).all(dim=2)
    assert float(dropped.float().mean()) == pytest.approx(0.2, abs=0.01)
    assert dropped.any(dim=1).any()
    assert not dropped.all(dim=0).any(), "drawn anew for each window"
    assert torch.equal(out[~dropped], x[~dropped])


def test_a_single_channel_is_never_dropped() -> None:
    config = NOTHING.model_copy(update={"channel_dropout": 0.9})
    x = noise(100, 1, 4)
    assert torch.equal(augment(x, config, generator()), x)


def test_the_papers_recipe_has_six_kinds() -> None:
    config = AugmentationConfig(recipe="paper")
    x = noise(1200, 2, 4096)
    out = augment(x, config, generator())
    # The part of the output that follows the input, and what is left beside it.
    factor = (out * x).mean(dim=(1, 2)) / x.square().mean(dim=(1, 2))
    rest = (out - factor[:, None, None] * x).std(dim=(1, 2)) / factor
    noisy = rest > 0.1
    torch.testing.assert_close(
        rest[noisy], torch.full_like(rest[noisy], 10 ** (-5 / 20)), rtol=0.05, atol=0
    )
    assert (rest[~noisy] < 1e-3).all()
    kinds = {
        (name, bool(n)): int((where & (noisy == n)).sum())
        for name, where in {
            "itself": (factor - 1).abs() < 0.05,
            "smaller": (factor > 0.67) & (factor < 0.83),
            "larger": (factor > 1.17) & (factor < 1.33),
        }.items()
        for n in (False, True)
    }
    assert sum(kinds.values()) == 1200
    assert all(150 < n < 250 for n in kinds.values()), kinds
    exact = factor[~noisy]
    smaller, larger = exact[exact < 0.9], exact[exact > 1.1]
    assert 0.7 <= smaller.min() < 0.71
    assert 0.79 < smaller.max() <= 0.8
    assert 1.2 <= larger.min() < 1.21
    assert 1.29 < larger.max() <= 1.3
