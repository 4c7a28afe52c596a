"""The search against a real Ray and a real database."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import ray
from optuna.trial import TrialState

from physiosync.encoders import EncoderConfig
from physiosync.errors import StudyError
from physiosync.interruption import Interruption
from physiosync.labels import Labels
from physiosync.model import PhysioSync
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.progress import StageProgress
from physiosync.search import (
    SearchPlan,
    finished,
    requeue_orphans,
    search,
)
from physiosync.searcher import OBJECTIVE, RememberFolders, ResumableASHA, StudySearch
from physiosync.space import first_points, space
from physiosync.splits import stimulus_split
from physiosync.storage import open_study
from physiosync.tasks import FinalistTask, Workload
from physiosync.tuner import Resources
from physiosync.windows import WindowStore
from tests.conftest import write_made_up

TINY = EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8)
BASE = PretrainingConfig(
    pps=("gsr",),
    short_seconds=1,
    long_pieces=3,
    moments=16,
    group_size=1,
    lag_skin_seconds=1,
    epochs=3,
    epoch_seconds=300,
    encoder=TINY,
)
SPACE = space(BASE, n_subjects=6, n_stimuli=24, seconds=60.0)


def _study(folder: Path) -> optuna.Study:
    return open_study("test", f"sqlite:///{folder / 'study.db'}", "identity", seed=0, trials=10)


def _result(epoch: int, *history: float) -> dict[str, object]:
    return {"epoch": epoch, OBJECTIVE: history[-1], "history": list(history)}


# ---- the searcher alone


@pytest.mark.parametrize(
    ("result", "error", "state", "values"),
    [
        (_result(3, 0.1, 0.2, 0.2), False, TrialState.COMPLETE, {1: 0.1, 2: 0.2, 3: 0.2}),
        (_result(1, 0.1), False, TrialState.PRUNED, {1: 0.1}),  # its last step is there
        ({"epoch": 2, OBJECTIVE: math.nan}, False, TrialState.FAIL, {}),
        (None, True, TrialState.FAIL, {}),
        (None, False, TrialState.FAIL, {}),
    ],
)
def test_how_a_trial_ends(
    tmp_path: Path,
    result: dict[str, object] | None,
    error: bool,
    state: TrialState,
    values: dict[int, float],
) -> None:
    study = _study(tmp_path)
    searcher = StudySearch(study, SPACE, max_epochs=3, artifacts=tmp_path / "artifacts")
    searcher.suggest("a")
    searcher.on_trial_complete("a", result, error=error)
    (trial,) = study.trials
    assert trial.state == state
    assert trial.intermediate_values == values
    if state in (TrialState.COMPLETE, TrialState.PRUNED):
        assert trial.value == result[OBJECTIVE]  # type: ignore[index]
        assert list((tmp_path / "artifacts").iterdir()), "its curve is kept for the dashboard"


def test_an_epoch_the_dead_driver_never_heard_of_is_made_good(tmp_path: Path) -> None:
    study = _study(tmp_path)
    searcher = StudySearch(study, SPACE, max_epochs=3)
    searcher.suggest("a")
    searcher.on_trial_result("a", _result(2, 0.1, 0.3))
    searcher.on_trial_result("a", _result(2, 0.1, 0.3))  # and told twice
    assert study.trials[0].intermediate_values == {1: 0.1, 2: 0.3}


def test_orphans_come_again_with_their_parameters_and_folders(tmp_path: Path) -> None:
    first = StudySearch(_study(tmp_path), SPACE, max_epochs=3)
    before = first.suggest("a")
    first.remember_folder("a", "/somewhere/trial-00000-a")
    first.on_trial_result("a", _result(1, 0.4))
    study = _study(tmp_path)  # the driver died; another one opens the database
    assert requeue_orphans(study) == 1
    again = StudySearch(study, SPACE, max_epochs=3)
    after = again.suggest("b")
    assert after["params"] == before["params"]
    assert after["name"] == before["name"]
    assert after["folders"] == ["/somewhere/trial-00000-a"]
    assert again.values("b") == {1: 0.4}
    assert len(study.trials) == 1


def test_snapshots_hold_no_password(tmp_path: Path) -> None:
    searcher = StudySearch(_study(tmp_path), SPACE, max_epochs=3)
    searcher.save_to_dir(str(tmp_path / "snapshots"))
    assert not (tmp_path / "snapshots").exists() or not list((tmp_path / "snapshots").iterdir())
    # Tune also pickles whatever it was given, beside the trials.
    assert b"study.db" not in ray.cloudpickle.dumps(searcher)
    scheduler = ResumableASHA(searcher, [], max_t=3)
    assert b"study.db" not in ray.cloudpickle.dumps((scheduler, RememberFolders(searcher)))


def test_asha_remembers_what_earlier_drivers_saw(tmp_path: Path) -> None:
    study = _study(tmp_path)
    searcher = StudySearch(study, SPACE, max_epochs=9)
    for name, value in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        searcher.suggest(name)
        searcher.on_trial_complete(name, _result(1, value))
    options = {"max_t": 9, "grace_period": 1, "reduction_factor": 3}
    decisions = {}
    for known, past in (("known", finished(study)), ("nothing known", [])):
        asha = ResumableASHA(searcher, past, **options)
        late = SimpleNamespace(trial_id="late")
        asha.on_trial_add(None, late)
        decisions[known] = asha.on_trial_result(None, late, {"epoch": 1, OBJECTIVE: 0.1})
    assert decisions == {"known": "STOP", "nothing known": "CONTINUE"}


# ---- with Ray


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workload:
    shards = write_made_up(tmp_path_factory.mktemp("long"), n_subjects=6, seconds=60.0)
    store = WindowStore.open(shards, ("eeg", "gsr"), cache)
    return Workload(
        shards=tuple(shards),
        pps=("gsr",),
        split=stimulus_split(store.trials, seed=1),
        labels=Labels(),
        probe=ProbeConfig(seconds=10),
        cache=cache,
    )


def _run(study: optuna.Study, workload: Workload, results: Path, trials: int) -> None:
    search(
        study,
        SearchPlan(trials=trials, base=BASE, grace_epochs=1, reduction=3, seed=0),
        workload,
        space(BASE, n_subjects=6, n_stimuli=6, seconds=60.0),
        results=results,
        resources=Resources(),
        watcher=StageProgress("search", total=trials, epochs=BASE.epochs),
        interruption=Interruption(),
    )


@pytest.mark.usefixtures("ray_running")
def test_a_search_with_a_diverging_trial_and_more_trials_later(
    tmp_path: Path, workload: Workload
) -> None:
    study = _study(tmp_path)
    default = first_points(BASE)[0]
    study.enqueue_trial(default)
    # A point far outside the space is made to give NaN; the search must note that and go on.
    study.enqueue_trial(default | {"learning_rate": 1e30})
    with pytest.warns(UserWarning, match="out of range"):
        _run(study, workload, tmp_path, trials=4)
    assert len(finished(study)) == 4
    _run(study, workload, tmp_path, trials=6)
    trials = study.trials
    assert [t.number for t in trials] == list(range(6)), "none lost, none doubled"
    assert trials[1].state == TrialState.FAIL
    assert trials[1].user_attrs["failure"] == "diverged"
    for trial in (trials[0], *trials[2:]):
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1)), "a value for every epoch"
        if trial.state == TrialState.COMPLETE:
            assert len(epochs) == BASE.epochs
            assert trial.value == max(trial.intermediate_values.values())
        else:
            assert trial.value == trial.intermediate_values[epochs[-1]]
    assert any(t.state == TrialState.COMPLETE for t in trials)


@pytest.mark.usefixtures("ray_running")
def test_a_search_whose_trials_all_fail_says_why_and_counts_none_of_them(
    tmp_path: Path, workload: Workload
) -> None:
    study = _study(tmp_path)
    lost = workload.model_copy(update={"shards": (tmp_path / "gone.parquet",)})
    with pytest.raises(StudyError, match=r"(?s)no trial of this run ended.*gone\.parquet"):
        _run(study, lost, tmp_path, trials=1)
    assert not finished(study), "what the disk did says nothing of a configuration"


def test_a_finalist_that_diverges_ranks_last_and_stops_nothing(
    tmp_path: Path, workload: Workload
) -> None:
    FinalistTask(
        workload=workload,
        config=BASE.model_copy(update={"learning_rate": 1e30}),
        split=workload.split,
        fold=1,
        seed=0,
        output=tmp_path / "run",
    ).run()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["diverged"] is True
    assert metrics["validation_score"] == -1
    PhysioSync.from_pretrained(tmp_path / "run")
