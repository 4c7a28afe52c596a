"""Rest or mental arithmetic, from EEG and ECG of people who share no stimulus. Open recordings.

    .venv/bin/python studies/eegmat.py                                  # fetches 10 of 36 people
    .venv/bin/python studies/eegmat.py --recordings DIR --people 36     # SubjectNN_1.edf, _2.edf

 Data      PhysioNet "EEG During Mental Arithmetic Tasks" 1.0.0, Zyma et al., Data 2019, 4(1), 14,
           doi 10.13026/C2JQ1P, under the Open Data Commons Attribution License 1.0. 19 EEG channels
           and ECG, 3 minutes of rest and 1 of arithmetic (5 MB a person). Files that are missing
           are fetched from physionet.org and checked: the first ten people's against our own
           checksums, the others' against the SHA256SUMS.txt that is fetched with them
 Question  rest or arithmetic, in 10 s pieces of the last rest minute and of the task, for people
           who are left out; balanced accuracy, 95 % t-interval over people. Chance is 0.5
 Method    5 folds of people: each is tested once. Encoders are pretrained on the other people, once
           a fold, paired by recording (`pairing="recording"`: nobody shares a stimulus). No search:
           the default configuration, so nothing is chosen on anybody
 Scale     the first rest minute of each person, without labels, tested people alike
 Controls  band power, heart rate alone, the same network untrained and from scratch; ECG shifted to
           another time of the recording while pretraining (what is left then is not EEG-ECG
           coupling); batches of one person (no negative can be told by who it is); placebo: early
           against late rest, scaled on the rest between them
 Takes     16 minutes of processor time for ten people, so 10 minutes on two cores
 Can show  whether encoders transfer to new people, beside what needs no encoder. It can't show
           synchrony between people, nor emotion; and one episode a condition, the task always last
           and in a file of its own, means that all else that differs between two files counts too

The same command goes on where it was stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats
from scipy.signal import welch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from physiosync.baselines import band_power, frozen_probe, majority
from physiosync.cli import guarded
from physiosync.config import CommandLine, Config
from physiosync.driving import only_driver
from physiosync.files import write_text
from physiosync.finetuning import FinetuningConfig, finetune, fit_heads
from physiosync.interruption import Interruption
from physiosync.labels import Labels
from physiosync.loading import scaled_loader
from physiosync.model import PhysioSync
from physiosync.predictions import prediction_rows, scores_of
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.pretraining import Pretraining, PretrainingConfig, moment_sampler
from physiosync.probing import ProbeConfig, covering_windows, embedding, fit_predict
from physiosync.recordings.eegmat import LICENCE, READING, fetch, write_events
from physiosync.recordings.mne_raw import find_mne, read_mne
from physiosync.sampling import Batch
from physiosync.scoring import mean_by
from physiosync.splits import Split, subject_folds
from physiosync.training import seed_everything
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]

#: Target -> the stretch that gives each person's scale, without labels.
SCALES = {"task": "early", "placebo": "middle"}
CONFIG = PretrainingConfig(pps=("ecg",), pairing="recording", epochs=4, epoch_seconds=20_000)
#: Rows of the table.
METHODS = {
    "majority": "majority of the training pieces",
    "band_power_raw": "band power + linear, raw",
    "band_power": "band power + linear, calibrated",
    "broadband": "power of all bands together + linear, calibrated",
    "heart_rate_raw": "heart rate alone, raw",
    "heart_rate": "heart rate alone, calibrated",
    "untrained_probe": "frozen untrained encoder + linear",
    "untrained_centred": "the same, its features calibrated",
    "scratch": "same network from scratch",
    "shuffled_probe": "frozen, pretrained with shifted ECG + linear",
    "shuffled_centred": "the same, its features calibrated",
    "shuffled": "pretrained with shifted ECG, fine-tuned",
    "matched_probe": "frozen pretrained encoder + linear",
    "matched_loose": "the same, penalised ten times less",
    "matched_centred": "the same, its features calibrated",
    "matched": "pretrained, fine-tuned",
    "alone_probe": "frozen, pretrained on batches of one person + linear",
    "alone_centred": "the same, its features calibrated",
    "alone": "pretrained on batches of one person, fine-tuned",
}


#: Differences that the table is followed by.
PAIRS = (
    ("matched_probe", "untrained_probe"),
    ("matched_probe", "shuffled_probe"),
    ("matched", "scratch"),
    ("alone", "matched"),
)


class Options(CommandLine):
    """Where things lie, and how much of them."""

    recordings: Path = Path("data/eegmat/recordings")
    """Folder of SubjectNN_1.edf and SubjectNN_2.edf; what is missing is fetched."""
    people: int = Field(default=10, ge=4, le=36)
    """The first so many of 36."""
    folds: int = Field(default=5, ge=2)
    """Folds of people; as many as people leaves one out at a time."""
    seed: int = Field(default=0, ge=0)
    """Of the folds and of all training."""
    results: Path = Path("results/eegmat")
    """Encoders, predictions.parquet and table.md; encoders that are there are taken as they are."""
    shards: Path = Path("data/eegmat/shards")
    """Folder of the Parquet shards."""
    cache: Path | None = None
    """Folder of the memory-mapped windows; default ~/.cache/physiosync/windows."""
    workers: int = Field(default=2, ge=1)
    """Processes."""


def open_store(options: Options) -> WindowStore:
    """Shards of all people, made if need be, and their windows."""
    fetch(options.recordings, options.people)
    events = options.shards.parent / "events.csv"
    write_events(options.recordings, options.people, events)
    sources = find_mne(options.recordings, events=events, options=READING)
    written = prepare(
        sources, read_mne, options.shards, PreprocessingConfig(), workers=options.workers
    )
    return WindowStore.open(written, ("eeg", "ecg"), options.cache)


# ---- what is compared


class OnePerson:
    """Draws each batch from one person, so that no negative can be told by who it is."""

    def __init__(self, config: PretrainingConfig, rows: pd.DataFrame, sfreq: float) -> None:
        self._each = [moment_sampler(config, mine, sfreq) for _, mine in rows.groupby("subject")]

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch of a person drawn at random."""
        return self._each[rng.integers(len(self._each))].draw(rng)


class Run(Config):
    """One pretraining: what decides its result."""

    config: PretrainingConfig
    one_person: bool
    """Whether a batch is of one person."""
    split: Split
    seed: int
    data: str
    """Identity of the known people's windows."""


def runs(store: WindowStore, split: Split, seed: int) -> dict[str, Run]:
    """Of one fold: the ECG matched or shifted; and matched, with batches of one person."""
    data = store.restrict(split.known(store.trials)).identity
    # One person has room for 12 moments; the number of steps stays.
    few: dict[str, object] = {
        "moments": 12,
        "epoch_seconds": CONFIG.epoch_seconds * 12 / CONFIG.moments,
    }
    changes: dict[str, dict[str, object]] = {
        "matched": {},
        "shuffled": {"pairs": "shuffled"},
        "alone": few,
    }
    return {
        name: Run(
            config=PretrainingConfig.model_validate(CONFIG.model_dump() | change),
            one_person=name == "alone",
            split=split,
            seed=seed,
            data=data,
        )
        for name, change in changes.items()
    }


def pretrain(job: tuple[WindowStore, Run, Path]) -> None:
    """Train encoders; only the fold's known people are read."""
    store, run, folder = job
    torch.set_num_threads(1)
    known = store.restrict(run.split.known(store.trials))
    pretraining = Pretraining(run.config, known, run.split, run.seed)
    if run.one_person:
        rows = known.trials.loc[run.split.trials(known.trials, "train")]
        pretraining.sampler = OnePerson(run.config, rows, store.sfreq)
    model = pretraining.run()
    model.save_pretrained(folder, metrics=run.model_dump(mode="json"))


def compare(
    job: tuple[WindowStore, Split, dict[str, Path], int],
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Predictions of all methods for a fold's test people; and what each encoder's features hold.

    "between NAME" is the share of their variance that lies between people: a feature that says who
    it is says less of what they do. "alpha NAME" is how well the alpha power of the test people's
    pieces can be read from them.
    """
    store, split, encoders, seed = job
    torch.set_num_threads(1)
    networks = {pairs: PhysioSync.from_pretrained(path) for pairs, path in encoders.items()}
    seed_everything(seed)
    networks["untrained"] = PhysioSync(networks["matched"].config).eval()
    tables: list[pd.DataFrame] = []
    held: dict[str, float] = {}
    for target, calibration in SCALES.items():
        labels = Labels(targets={target: 2}, threshold=None)
        asked = store.trials.index[labels.classes(store.trials, target) >= 0]
        parts = {
            "train": np.intersect1d(asked, split.known(store.trials)),
            "test": np.intersect1d(asked, split.trials(store.trials, "test")),
            "scale": store.trials.index[store.trials["stimulus"] == calibration].to_numpy(),
        }
        if target == "task":
            for name, model in networks.items():
                features = embedded(model, store, parts)
                held[f"between {name}"] = between_people(features.loc[parts["train"]], store)
                held[f"alpha {name}"] = alpha_readable(features, store, parts)
        for method, rows in answers(store, parts, labels, networks, seed):
            tables.append(rows.assign(method=method, fold=min(split.test.subjects)))
    return pd.concat(tables, ignore_index=True), held


def between_people(features: pd.DataFrame, store: WindowStore) -> float:
    """Share of the features' variance that lies between people; `features` has a row a trial."""
    people = store.trials["subject"].loc[features.index]
    means = features.groupby(people).transform("mean")
    return float((means.var() / features.var()).mean())


def alpha_readable(features: pd.DataFrame, store: WindowStore, parts: dict[str, Ints]) -> float:
    """Correlation over a test person's pieces, mean over people, of their log power at 8-13 Hz
    (mean over channels) and what a ridge regression reads from features."""
    train, test = parts["train"], parts["test"]
    alpha = band_of(store, np.concatenate([train, test]), 8.0, 13.0).mean(axis=1)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    ridge.fit(features.loc[train], alpha.loc[train])
    read = pd.Series(ridge.predict(features.loc[test]), index=test)
    people = store.trials["subject"].loc[test]
    each = [read.loc[ids].corr(alpha.loc[ids]) for ids in people.groupby(people).groups.values()]
    return float(np.mean(each))


def answers(
    store: WindowStore,
    parts: dict[str, Ints],
    labels: Labels,
    networks: dict[str, PhysioSync],
    seed: int,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """(method, predictions) of one question."""
    train, test, scale = parts["train"], parts["test"], parts["scale"]
    none = np.array([], dtype=np.int64)
    yield "majority", majority(store.trials, train=train, test=test, labels=labels)
    for method, reference in (("band_power_raw", none), ("band_power", scale)):
        yield (
            method,
            band_power(store, train=train, test=test, labels=labels, scale=reference),
        )
    every = np.concatenate([train, test, scale])
    yield "broadband", linear(store, band_of(store, every, 4.0, 45.0), parts, labels, centred=True)
    beats = heart_rates(store, every)
    yield "heart_rate_raw", linear(store, beats, parts, labels, centred=False)
    yield "heart_rate", linear(store, beats, parts, labels, centred=True)
    penalty = ProbeConfig().penalty
    for name, model in networks.items():
        yield (
            f"{name}_probe",
            frozen_probe(model, store, **parts, labels=labels, penalty=penalty),
        )
        if name == "matched":
            loose = {"labels": labels, "penalty": 10 * penalty}
            yield "matched_loose", frozen_probe(model, store, **parts, **loose)
        features = embedded(model, store, parts)
        yield f"{name}_centred", linear(store, features, parts, labels, centred=True)
        method = "scratch" if name == "untrained" else name
        if "task" in labels.targets:
            yield method, finetuned(model, store, parts, labels, seed, pretrained=method == name)


def finetuned(
    model: PhysioSync,
    store: WindowStore,
    parts: dict[str, Ints],
    labels: Labels,
    seed: int,
    *,
    pretrained: bool,
) -> pd.DataFrame:
    """One classifier, trained on all known people and asked about those left out."""
    config, copy = FinetuningConfig(), PhysioSync(model.config)
    copy.load_state_dict(model.state_dict(), strict=True)
    start = fit_heads(
        config, copy, store, everyone=parts["train"], scale=parts["scale"], labels=labels, seed=seed
    )
    return finetune(config, start, store, **parts, labels=labels, seed=seed, pretrained=pretrained)


def linear(
    store: WindowStore,
    features: pd.DataFrame,
    parts: dict[str, Ints],
    labels: Labels,
    *,
    centred: bool,
) -> pd.DataFrame:
    """A linear classifier of features (a row a trial); `centred` on each person's scale trial."""
    table = store.trials
    if centred:
        people = table["subject"]
        own = features.loc[parts["scale"]].groupby(people).mean()
        features = features - own.loc[people.loc[features.index]].to_numpy()
    features = features.fillna(features.loc[parts["train"]].median())
    ((target, n_classes),) = labels.targets.items()
    p = fit_predict(
        features.loc[parts["train"]].to_numpy(),
        labels.classes(table, target).loc[parts["train"]].to_numpy(),
        features.loc[parts["test"]].to_numpy(),
        n_classes=n_classes,
        penalty=ProbeConfig().penalty if features.shape[1] > 1 else 1.0,
    )
    starts = np.zeros(len(p), dtype=np.int64)
    return prediction_rows(table, parts["test"], starts, target, p, labels=labels, sfreq=1.0)


def embedded(model: PhysioSync, store: WindowStore, parts: dict[str, Ints]) -> pd.DataFrame:
    """Mean features of each trial by the frozen encoders."""
    loader = scaled_loader(store, parts["scale"], model.config.lags, model.config.scaling)
    windows = covering_windows(
        store.trials,
        np.unique(np.concatenate(list(parts.values()))),
        n_times=model.config.long_times,
        sfreq=store.sfreq,
        seconds=None,
    )
    trials, x = mean_by(embedding(model, loader)(windows.trials, windows.starts), windows.trials)
    return pd.DataFrame(x, index=trials)


def band_of(store: WindowStore, trials: Ints, low: float, high: float) -> pd.DataFrame:
    """Log power of each EEG channel from `low` to `high` Hz, (trials, channels)."""
    rows = []
    for trial in trials.tolist():
        hertz, power = welch(store.read("eeg", trial), store.sfreq, nperseg=256, axis=0)
        rows.append(np.log(power[(hertz >= low) & (hertz < high)].mean(axis=0)))
    return pd.DataFrame(np.stack(rows), index=trials)


def heart_rates(store: WindowStore, trials: Ints) -> pd.DataFrame:
    """Beats a minute of each trial, from the median interval; NaN where no two beats are found."""
    rates = {}
    for trial in trials.tolist():
        info = mne.create_info(["ECG"], store.sfreq, ["ecg"])
        raw = mne.io.RawArray(store.read("ecg", trial).T * 1e-6, info, verbose="error")
        beats = mne.preprocessing.find_ecg_events(raw, ch_name="ECG", verbose="error")[0][:, 0]
        seconds = np.diff(beats) / store.sfreq
        rates[trial] = 60 / np.median(seconds) if len(seconds) else np.nan
    return pd.DataFrame({"rate": rates})


# ---- the table


def by_person(predictions: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy of whole pieces: index (target, method), a column a person."""
    scores = pd.concat(
        [scores_of(rows).assign(method=method) for method, rows in predictions.groupby("method")]
    ).query("level == 'trial'")
    return scores.pivot_table("balanced_accuracy", ["target", "method"], "subject")


def mean_and_interval(x: NDArray[np.float64]) -> str:
    """With the 95 % t-interval of the mean."""
    low, high = x[0], x[0]
    if np.ptp(x) > 0:
        low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    return f"{x.mean():.3f} [{low:.3f}, {high:.3f}]"


def table(scores: pd.DataFrame, people: int, folds: int, seed: int) -> str:
    """As Markdown: each method, and by how much it is ahead of band power."""
    lines = [
        f"{people} people, protocol subject (new people), {folds} folds of people, encoders paired",
        f"by recording, seed {seed}: balanced accuracy of 10 s pieces [95 % t-interval over",
        "people].",
        "",
        "| method | rest or task | ahead of calibrated band power | placebo: early, late rest |",
        "|---|---|---|---|",
    ]
    reference = scores.loc[("task", "band_power")].to_numpy()
    for method, words in METHODS.items():
        task = scores.loc[("task", method)].to_numpy()
        cells = [mean_and_interval(task), mean_and_interval(task - reference), ""]
        if method == "band_power":
            cells[1] = ""
        if ("placebo", method) in scores.index:
            cells[2] = mean_and_interval(scores.loc[("placebo", method)].to_numpy())
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", "Differences, rest or task:"]
    for method, other in PAIRS:
        gap = scores.loc[("task", method)] - scores.loc[("task", other)]
        lines.append(f"* {method} less {other}: {mean_and_interval(gap.to_numpy())}")
    return "\n".join(lines) + "\n"


@contextmanager
def processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with the block, however it ends: a pool alone would finish its queue."""
    # Ctrl-C in a terminal reaches all processes; what it means is decided in this one.
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=ignore)
    try:
        yield pool
    except BaseException:
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run(options: Options) -> None:
    """Fetch, prepare, pretrain every fold, compare, print."""
    print(LICENCE, flush=True)
    store = open_store(options)
    for sentence in store.left_out:
        if any(f"({name})" in sentence for name in ("early", "middle", "late", "task")):
            print("  note:", sentence)
    folds = subject_folds(store.trials, options.folds, calibration=["early"], seed=options.seed)
    of_folds = [runs(store, split, options.seed) for split in folds]
    encoders = [
        {pairs: options.results / "encoders" / run.uid() for pairs, run in of_fold.items()}
        for of_fold in of_folds
    ]
    jobs = [
        (store, of_fold[pairs], path)
        for of_fold, paths in zip(of_folds, encoders, strict=True)
        for pairs, path in paths.items()
        if not path.exists()
    ]
    compared = [
        (store, split, paths, options.seed) for split, paths in zip(folds, encoders, strict=True)
    ]
    tables, held = [], []
    kept = sum(map(len, encoders)) - len(jobs)
    print(
        f"pretraining {len(jobs)} encoders, {kept} are there already; some minutes each. "
        "Ctrl-C stops, and the same command goes on",
        flush=True,
    )
    with processes(options.workers) as pool:
        for done, _ in enumerate(pool.map(pretrain, jobs), 1):
            print(f"pretraining: {done}/{len(jobs)}", flush=True)
        for done, (rows, found) in enumerate(pool.map(compare, compared), 1):
            tables.append(rows)
            held.append(found)
            print(f"comparing: {done}/{len(folds)}", flush=True)
    predictions = pd.concat(tables, ignore_index=True)
    predictions.to_parquet(options.results / "predictions.parquet", index=False)
    scores = by_person(predictions)
    text = table(scores, options.people, options.folds, options.seed)
    mean = pd.DataFrame(held).mean()
    for what, words in (
        ("between ", "Share of the features' variance that lies between people"),
        ("alpha ", "Correlation of a new person's alpha power with what features tell of it"),
    ):
        of_encoders = {k.removeprefix(what): v for k, v in mean.items() if k.startswith(what)}
        text += f"\n{words} (mean over folds): "
        text += ", ".join(f"{name} {value:.2f}" for name, value in of_encoders.items()) + "\n"
    write_text(options.results / "table.md", text)
    print("\n" + text)
    print(scores.loc["task"].reindex(METHODS).round(2).to_string())


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    guarded(lambda: alone(options))


def alone(options: Options) -> None:
    """Run, as the only one in the results folder."""
    with Interruption().installed(), only_driver(options.results, "eegmat", ""):
        run(options)


if __name__ == "__main__":
    main()
