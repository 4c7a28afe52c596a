"""What recordings or shards hold, in words: one look before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from physiosync.errors import InputError, RecordingError
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.recordings.bids import find_recordings
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.dreamer import find_dreamer, read_dreamer
from physiosync.recordings.events import Event, Events
from physiosync.recordings.mne_raw import read_mne
from physiosync.recordings.mne_sources import MneOptions, sources_of
from physiosync.recordings.quality import LEAST_SWING, clipped, constant, swing
from physiosync.shards import find_shards, read_info, read_trials
from physiosync.wording import counted

#: Share of a trial's samples at the end of a channel's range from which it is called clipped.
_CLIPPED = 0.005


@dataclass(frozen=True)
class Subject:
    """What there is to say of one subject.

    Parameters
    ----------
    seconds : of each trial
    missing : modality -> number of trials without it
    ratings : rating -> value -> number of trials
    remarks : one sentence for each channel that is constant, nearly flat or clipped, and for each
        thing that was left out
    """

    subject: str
    dataset: str
    seconds: tuple[float, ...]
    modalities: Mapping[str, Channels]
    missing: Mapping[str, int]
    ratings: Mapping[str, Counter[float]]
    codes: Mapping[str, Mapping[str, int]]
    remarks: tuple[str, ...]


def subjects_in(
    path: Path, *, events: Path | None = None, options: MneOptions | None = None
) -> dict[str, Callable[[], Recording]]:
    """What a file or folder holds: subject -> a function that reads it.

    Parameters
    ----------
    path : a shard or a folder of shards; DEAP's .dat files or one of them; DREAMER.mat; a BIDS
        folder; with `events` a folder of anything MNE reads; or one such file, which is then one
        trial

    Raises
    ------
    InputError
        If there is nothing of that kind.
    """
    if events is not None or (path / "dataset_description.json").is_file():
        sources = find_recordings(path, events=events, options=options)
        return {source.subject: partial(read_mne, source) for source in sources}
    if path.suffix == ".parquet" or any(path.glob("*.parquet")):
        shards = [path] if path.suffix == ".parquet" else find_shards(path)
        return {shard.stem: partial(read_shard, shard) for shard in shards}
    names = [path.name] if path.is_file() else [p.name for p in path.glob("*")]
    if any(name.lower() == "dreamer.mat" for name in names):
        return {s: partial(read_dreamer, file, s) for file, s in find_dreamer(path)}
    if path.is_file() and path.suffix.lower() != ".dat":
        return {path.stem: partial(_whole, path, options or MneOptions())}
    if not any(name.lower().endswith(".dat") for name in names):
        raise RecordingError(
            path,
            "",
            expected="shards, DEAP's .dat, DREAMER.mat, a BIDS folder, one file that MNE reads, or "
            "a folder of such with --events",
            found="nothing" if not path.exists() else f"{len(names)} other files",
        )
    found = [path] if path.is_file() else find_deap(path)
    return {file.stem.lower(): partial(read_deap, file) for file in found}


def read_shard(path: Path) -> Recording:
    """A shard as a recording: its signals are preprocessed, and there is no baseline any more.

    Raises
    ------
    ShardError
        If it is missing or damaged.
    """
    info = read_info(path)
    trials = tuple(
        Trial(trial.stimulus, trial.order, signals, {}, trial.ratings)
        for trial, signals in read_trials(path, list(info.channels))
    )
    return Recording(
        dataset=info.dataset,
        subject=info.subject,
        modalities=info.channels,
        trials=trials,
        source=path,
        fingerprint=info.fingerprint,
        left_out=info.left_out,
        provenance=info.provenance,
    )


def look_at(recording: Recording) -> Subject:
    """Everything that is said of a subject, from its signals and ratings."""
    odd: dict[str, list[str]] = {}
    seconds = []
    for trial in recording.trials:
        lengths = [x.shape[1] / recording.modalities[m].sfreq for m, x in trial.signals.items()]
        seconds.append(max(lengths, default=0.0))
        for modality, x in trial.signals.items():
            for sentence in _remarks(modality, recording.modalities[modality], x):
                odd.setdefault(sentence, []).append(trial.stimulus)
    n_trials = len(recording.trials)
    remarks = [
        f"{sentence} in {len(where)} of {n_trials} trials ({_some(where)})"
        for sentence, where in odd.items()
    ]
    names = dict.fromkeys(name for trial in recording.trials for name in trial.ratings)
    codes = recording.provenance.get("codes")
    return Subject(
        subject=recording.subject,
        dataset=recording.dataset,
        seconds=tuple(seconds),
        modalities=recording.modalities,
        missing={
            m: sum(m not in trial.signals for trial in recording.trials)
            for m in recording.modalities
        },
        ratings={
            name: Counter(float(t.ratings[name]) for t in recording.trials if name in t.ratings)
            for name in names
        },
        codes=codes if isinstance(codes, dict) else {},  # type: ignore[arg-type]
        remarks=(*remarks, *(f"note: {sentence}" for sentence in recording.left_out)),
    )


def look_at_all(
    read: Mapping[str, Callable[[], Recording]],
) -> Iterator[tuple[str, Subject | InputError]]:
    """Look at subject after subject; one that can't be read does not hide the others."""
    for name, its in read.items():
        try:
            yield name, look_at(its())
        except InputError as error:
            yield name, error


def in_words(subjects: Sequence[Subject], *, threshold: float) -> str:
    """Subjects, trials, channels, missing pieces and labels as text of some 100 columns.

    Parameters
    ----------
    threshold : from which a rating counts as high
    """
    seconds = [s for subject in subjects for s in subject.seconds]
    datasets = ", ".join(sorted({subject.dataset for subject in subjects}))
    lines = [
        f"{datasets}: {counted(len(subjects), 'subject')}, {counted(len(seconds), 'trial')}, "
        f"{sum(seconds):.0f} s",
        "",
    ]
    lines.append(f"{'subject':<12}{'trials':>7}{'seconds':>16}  channels")
    for subject in subjects:
        shortest, longest = min(subject.seconds, default=0.0), max(subject.seconds, default=0.0)
        length = f"{shortest:g}" if shortest == longest else f"{shortest:g} to {longest:g}"
        channels = ", ".join(_modality(m, subject) for m in subject.modalities)
        lines.append(f"{subject.subject:<12}{len(subject.seconds):>7}{length:>16}  {channels}")
    lines += ["", *_missing(subjects), *_labels(subjects, threshold)]
    remarks = [f"{s.subject}: {remark}" for s in subjects for remark in s.remarks]
    return "\n".join([*lines, "", *(remarks or ["nothing else to remark"])])


def _modality(modality: str, subject: Subject) -> str:
    channels = subject.modalities[modality]
    gap = (
        f" (not in {counted(subject.missing[modality], 'trial')})"
        if subject.missing[modality]
        else ""
    )
    return f"{modality} {len(channels.ch_names)} x {channels.sfreq:g} Hz {channels.unit}{gap}"


def _missing(subjects: Sequence[Subject]) -> list[str]:
    everything = dict.fromkeys(m for subject in subjects for m in subject.modalities)
    lines = []
    for modality in everything:
        without = [s.subject for s in subjects if modality not in s.modalities]
        if without:
            lines.append(f"no {modality}: {_some(without)} ({counted(len(without), 'subject')})")
    return lines


def _labels(subjects: Sequence[Subject], threshold: float) -> list[str]:
    lines = []
    n_trials = sum(len(subject.seconds) for subject in subjects)
    for name in dict.fromkeys(name for subject in subjects for name in subject.ratings):
        values: Counter[float] = Counter()
        codes: dict[str, int] = {}
        for subject in subjects:
            values.update(subject.ratings.get(name, {}))
            codes |= subject.codes.get(name, {})
        n = values.total()
        if codes:
            classes = ", ".join(f"{text} {values[float(k)]}" for text, k in codes.items())
            said = f"classes {classes}"
        else:
            high = sum(count for value, count in values.items() if value >= threshold)
            said = (
                f"{min(values):g} to {max(values):g}, {high} of {n} trials ({high / n:.0%}) at "
                f"{threshold:g} or above"
            )
            one = sum(_is_one_class(s.ratings.get(name, Counter()), threshold) for s in subjects)
            said += f"; {counted(one, 'subject')} with one class only" if one else ""
        lines.append(f"{name}: {said}{f'; {n_trials - n} unrated' if n < n_trials else ''}")
    return lines or ["no ratings"]


def _is_one_class(values: Counter[float], threshold: float) -> bool:
    return len({value >= threshold for value in values}) == 1


def _remarks(modality: str, channels: Channels, x: np.ndarray) -> Iterator[str]:
    least = LEAST_SWING.get(modality, 0.0) if channels.unit == "uV" else 0.0
    each = zip(channels.ch_names, constant(x), swing(x, channels.sfreq), clipped(x), strict=True)
    for name, is_constant, moves, share in each:
        if is_constant:
            yield f"{modality} channel {name} constant"
        elif moves < least:
            yield f"{modality} channel {name} nearly flat (less than {least:g} uV in 2 s)"
        elif share > _CLIPPED:
            yield f"{modality} channel {name} clipped"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _whole(path: Path, options: MneOptions) -> Recording:
    """A single file as a recording of one trial."""
    event = Event(path.name, path.stem, "recording", 0.0, None, 1, None, {})
    (source,) = sources_of(path.parent, Events(path, (event,), {}), options)
    return read_mne(source)


def trial_of(recording: Recording, wanted: str) -> Trial:
    """A trial by its stimulus or its position in the session; the first if nothing is wanted.

    Raises
    ------
    RecordingError
        If there is no such trial.
    """
    for trial in recording.trials:
        if not wanted or wanted in (trial.stimulus, str(trial.order)):
            return trial
    found = ", ".join(f"{trial.order} ({trial.stimulus})" for trial in recording.trials)
    raise RecordingError(recording.source, "trial", expected=f"one named {wanted}", found=found)
