import numpy as np
import optuna
import pandas as pd
import pytest
from scipy import stats

from physiosync.options import StudyOptions
from physiosync.preprocessing import Preset
from physiosync.pretraining import PretrainingConfig
from physiosync.promotion import finalists, one_standard_error, result_in_words
from physiosync.sampling import Pairing
from physiosync.space import (
    first_points,
    in_words,
    space,
    to_config,
    to_params,
    weight_params,
    weights,
)

BASE = PretrainingConfig(epochs=3)


def test_every_point_of_the_space_is_a_valid_configuration() -> None:
    distributions = space(BASE, n_subjects=8, n_stimuli=24, seconds=60.0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(200):
        config = to_config(study.ask(distributions).params, BASE)
        assert config.epochs == BASE.epochs
        assert config.w_eeg + config.w_pps + config.w_cmca == pytest.approx(2.0)


def test_points_and_configurations_are_inverse() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        params = study.ask(space(BASE, n_subjects=8, n_stimuli=24, seconds=60.0)).params
        back = to_params(to_config(params, BASE))
        assert back == pytest.approx(params) or {
            k: v for k, v in back.items() if k != "noise_snr_db"
        } == pytest.approx({k: v for k, v in params.items() if k != "noise_snr_db"})
        assert back["noise_snr_db"] == params["noise_snr_db"]


def test_weights_are_flat_on_the_simplex() -> None:
    """Each weight's share of a flat simplex is Beta(1, 2)."""
    u = np.random.default_rng(0).random((4000, 2))
    drawn = np.array([weights(a, b) for a, b in u]) / 2.0
    for column in drawn.T:
        assert stats.kstest(column, stats.beta(1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("corner", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_corners_can_be_reached(corner: tuple[float, float, float]) -> None:
    params = weight_params(*corner)
    assert np.array(weights(params["weight_split"], params["weight_share"])) / 2 == pytest.approx(
        np.array(corner)
    )


def test_the_default_is_tried_first_and_the_corners_next() -> None:
    configs = [to_config(point, BASE) for point in first_points(BASE)]
    assert configs[0] == BASE
    assert [(c.w_eeg, c.w_pps, c.w_cmca) for c in configs[1:]] == [
        (2.0, 0.0, 0.0),
        (0.0, 2.0, 0.0),
        (0.0, 0.0, 2.0),
    ]


def test_space_leaves_out_what_the_data_cannot_fill() -> None:
    small = space(BASE, n_subjects=4, n_stimuli=8, seconds=60.0)
    assert small["group_size"].choices == (1, 2)  # type: ignore[attr-defined]
    assert small["moments"].choices == (16,)  # type: ignore[attr-defined]


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("pairing", ["stimulus", "recording"])
def test_the_default_is_a_point_of_its_space(preset: Preset, pairing: Pairing) -> None:
    """Optuna would draw another value in place of one that a distribution lacks."""
    base = StudyOptions(preset=preset, pairing=pairing).pretraining
    searched = space(base, n_subjects=4, n_stimuli=8, seconds=15.0)
    for name, value in to_params(base).items():
        assert searched[name]._contains(searched[name].to_internal_repr(value)), name


@pytest.mark.parametrize("seconds", [7.0, 12.5, 16.0, 60.0])
@pytest.mark.parametrize("windows", [1, 2])
def test_every_window_fits_the_shortest_trial(seconds: float, windows: int) -> None:
    """Otherwise configurations would be scored on different trials, or could not be trained."""
    base = StudyOptions(pairing="stimulus" if windows == 1 else "recording").pretraining
    searched = space(base, n_subjects=8, n_stimuli=24, seconds=windows * seconds)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        config = to_config(study.ask(searched).params, base)
        lag = max(config.lag_skin_seconds, config.lag_body_seconds)
        assert windows * config.long_seconds + lag <= windows * seconds


def _trial(number: int, value: float, state: str, temperature: float) -> optuna.trial.FrozenTrial:
    params = to_params(BASE) | {"temperature": temperature}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        value=None if state == "FAIL" else value,
        params=params,
        distributions=space(BASE, n_subjects=8, n_stimuli=24, seconds=60.0),
    )


def test_finalists_are_distinct_and_hold_the_default() -> None:
    trials = [
        _trial(0, 0.9, "PRUNED", 0.05),  # high but cut off early
        _trial(1, 0.5, "COMPLETE", 0.1),
        _trial(2, 0.6, "COMPLETE", 0.2),
        _trial(3, 0.6, "COMPLETE", 0.2),  # the same point again
        _trial(4, 0.0, "FAIL", 0.4),
    ]
    chosen = finalists(trials, BASE, 3)
    assert [c.temperature for c in chosen] == [BASE.temperature, 0.2, 0.1]


def test_one_standard_error_prefers_the_cheapest_of_equals() -> None:
    scores = pd.DataFrame(
        {
            "configuration": ["best"] * 3 + ["default"] * 3 + ["bad"] * 3,
            "score": [0.50, 0.60, 0.70, 0.55, 0.57, 0.56, 0.1, 0.1, 0.1],
        }
    )
    ranking = one_standard_error(scores, {"best": 5.0, "default": 0.0, "bad": 1.0})
    assert list(ranking.index) == ["default", "best", "bad"]
    assert ranking.loc["best", "mean"] == pytest.approx(0.6)
    assert ranking.loc["best", "standard_error"] == pytest.approx(0.1 / np.sqrt(3))


def test_one_standard_error_keeps_a_clear_winner() -> None:
    scores = pd.DataFrame(
        {"configuration": ["best"] * 2 + ["default"] * 2, "score": [0.60, 0.61, 0.30, 0.31]}
    )
    assert one_standard_error(scores, {"best": 5.0, "default": 0.0}).index[0] == "best"


def test_a_configuration_is_told_by_what_it_has_otherwise() -> None:
    base = PretrainingConfig()
    assert in_words(base, base) == "the default"
    other = to_config(to_params(base) | {"temperature": 0.123456, "moments": 64}, base)
    assert in_words(other, base) == "temperature 0.123, moments 64"
    quiet = base.model_copy(
        update={"augmentation": base.augmentation.model_copy(update={"noise_snr_db": None})}
    )
    loud = base.model_copy(
        update={"augmentation": base.augmentation.model_copy(update={"noise_snr_db": 5.0})}
    )
    assert in_words(quiet, loud) == "noise snr db off"
    corner = to_config(to_params(base) | weight_params(1.0, 0.0, 0.0), base)
    assert in_words(corner, base) == "weight of EEG 2, of PPS 0, of CM-CA 0"


def test_one_run_has_no_standard_error() -> None:
    scores = pd.DataFrame({"configuration": ["a", "b", "b"], "score": [0.25, 0.5, 0.3]})
    table = one_standard_error(scores, {"a": 0.0, "b": 1.0})
    assert result_in_words(table.loc["a"]) == "0.250 (one run)"
    assert result_in_words(table.loc["b"]) == "0.400 +- 0.100 (2 runs)"
