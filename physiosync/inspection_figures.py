"""Pictures of one trial: its signals, its spectra and where its electrodes are."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Any

import mne
import numpy as np
from matplotlib.figure import Figure
from scipy.signal import welch

from physiosync.files import write_text
from physiosync.recordings.base import Recording, Trial
from physiosync.recordings.channels import MONTAGE, positions

_INK, _ACCENT = "#1a1a1a", "#0072b2"
#: Metres: middle and radius of the circle that stands for the head of the standard cap.
_HEAD = (0.0, 0.017, 0.0, 0.097)


def write_report(path: Path, recording: Recording, trial: Trial, words: str) -> None:
    """Write an HTML page through `mne.Report`: words, then pictures of one trial."""
    where = f"{recording.subject}, trial {trial.order} ({trial.stimulus})"
    report = mne.Report(title=f"{recording.dataset}: {where}", verbose="ERROR")
    report.add_html(f"<pre>{html.escape(words)}</pre>", "What there is")
    report.add_figure(signals(recording, trial), f"Signals of {where}", image_format="png")
    report.add_figure(spectra(recording, trial), f"Spectra of {where}", image_format="png")
    if "eeg" in trial.signals:
        figure, lost = electrodes(recording.modalities["eeg"].ch_names)
        caption = f"Without a position: {', '.join(lost)}" if lost else "All have a position"
        report.add_figure(figure, "Electrodes", caption=caption, image_format="png")
    with tempfile.TemporaryDirectory(prefix="physiosync-") as folder:
        made = Path(folder) / "report.html"
        report.save(made, open_browser=False, verbose="ERROR")
        write_text(path, made.read_text(encoding="utf-8"))


def signals(recording: Recording, trial: Trial, *, seconds: float = 20.0) -> Figure:
    """The first seconds of a trial: EEG above, a panel for each other modality below."""
    modalities = [m for m in recording.modalities if m in trial.signals]
    heights = [max(0.22 * len(trial.signals[m]), 0.9) for m in modalities]
    figure = Figure(figsize=(11, 1 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(modalities), 1, sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ]
    for axis, modality in zip(panels, modalities, strict=True):
        channels = recording.modalities[modality]
        x = trial.signals[modality][:, : round(seconds * channels.sfreq)].astype(np.float64)
        times = np.arange(x.shape[1]) / channels.sfreq
        if len(x) == 1:
            axis.plot(times, x[0], color=_ACCENT, linewidth=0.8)
            axis.set_ylabel(f"{channels.ch_names[0]}\n{channels.unit}")
        else:
            _stack(axis, times, x, channels.ch_names, f"{modality}, {channels.unit}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    longest = max(trial.signals[m].shape[1] / recording.modalities[m].sfreq for m in modalities)
    of_all = f"; the first {seconds:g} of {longest:.0f} s" if longest > seconds else ""
    panels[-1].set_xlabel(f"seconds{of_all}")
    return figure


def spectra(recording: Recording, trial: Trial) -> Figure:
    """Power spectral density of each channel, a panel for each modality that is fast enough."""
    modalities = [
        m for m in recording.modalities if m in trial.signals and m not in ("gsr", "temp")
    ]
    figure = Figure(figsize=(11, 3.2 * -(-max(len(modalities), 1) // 2)), layout="constrained")
    panels = figure.subplots(-(-max(len(modalities), 1) // 2), 2, squeeze=False).ravel()
    for axis in panels[len(modalities) :]:
        axis.set_visible(False)
    for axis, modality in zip(panels[: len(modalities)], modalities, strict=True):
        channels, x = recording.modalities[modality], trial.signals[modality]
        n = min(round(4 * channels.sfreq), x.shape[1])
        frequencies, power = welch(x.astype(np.float64), channels.sfreq, nperseg=n, axis=1)
        for row in power:
            if (row[1:] > 0).any():
                axis.semilogy(frequencies[1:], row[1:], color=_INK, alpha=0.35, linewidth=0.8)
        if len(power) > 1:
            middle = np.median(power, axis=0)
            axis.semilogy(frequencies[1:], middle[1:], color=_ACCENT, label="median of channels")
            axis.legend(frameon=False)
        axis.set(title=modality, xlabel="Hz", ylabel=f"({channels.unit})\u00b2/Hz")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def electrodes(names: tuple[str, ...]) -> tuple[Figure, list[str]]:
    """A map of the head, and the channels that have no place on a standard cap."""
    known = {name: positions()[name.lower()] for name in names if name.lower() in positions()}
    lost = [name for name in names if name not in known]
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    if known:
        info = mne.create_info(list(known.values()), 1.0, "eeg", verbose="ERROR")
        info.set_montage(mne.channels.make_standard_montage(MONTAGE), verbose="ERROR")
        mne.viz.plot_sensors(info, show_names=True, axes=axis, show=False, sphere=_HEAD)
    else:
        axis.set_axis_off()
    axis.set_title(f"{len(known)} of {len(names)} channels have a position")
    return figure, lost


def _stack(axis: Any, times: Any, x: Any, names: tuple[str, ...], title: str) -> None:
    """Traces one above the other, and a bar that tells their scale."""
    centred = x - np.median(x, axis=1, keepdims=True)
    step = 4 * float(np.median(np.abs(centred))) * 1.4826 or 1.0
    for k, row in enumerate(centred):
        axis.plot(times, row - k * step, color=_INK, linewidth=0.6)
    axis.set_yticks([-k * step for k in range(len(names))], names, fontsize=8)
    axis.set_ylim(-(len(names) - 0.2) * step, 0.8 * step)
    axis.set_title(f"{title}; traces {step:.3g} apart", fontsize=9, loc="left")
