"""BDF files as BioSemi's program writes them, and small sessions in DEAP's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATE = 512
# fmt: off
GENEVA = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1", "Oz",
    "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2", "P4", "P8",
    "PO4", "O2",
)
TWENTE = (
    "Fp1", "AF3", "F7", "F3", "FC1", "FC5", "T7", "C3", "CP1", "CP5", "P7", "P3", "Pz", "PO3", "O1",
    "Oz", "O2", "PO4", "P4", "P8", "CP6", "CP2", "C4", "T8", "FC6", "FC2", "F4", "F8", "AF4", "Fp2",
    "Fz", "Cz",
)
# fmt: on
EXG = tuple(f"EXG{k}" for k in range(1, 9))
OTHERS = ("GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Plet", "Temp")
#: Label -> unit and limits, where they are not those of an electrode.
SCALES = {
    "GSR1": ("Ohm", -8388608, 8388607),
    "Temp": ("C", -262.144, 262.143),
    "Status": ("Boolean", -8388608, 8388607),
}
ELECTRODE = ("uV", -262144, 262143)
STEPS = (-8388608, 8388607)
#: What s24 to s32 have above the code in Status.
OFFSET = 0x18FF00


@dataclass
class Channel:
    """A channel of a BDF file; `samples` are its integers."""

    label: str
    samples: NDArray[np.int64]
    unit: str = "uV"
    limits: tuple[float, float] = (-262144, 262143)
    steps: tuple[int, int] = STEPS
    transducer: str = "Active Electrode"

    @property
    def gain(self) -> float:
        return (self.limits[1] - self.limits[0]) / (self.steps[1] - self.steps[0])

    def physical(self) -> Array:
        return (self.samples - self.steps[0]) * self.gain + self.limits[0]


def bdf(channels: Sequence[Channel], *, records: int | None = None, rate: int = RATE) -> bytes:
    """The bytes of a file with records of one second; `records` is what the header says."""
    n = len(channels)
    n_times = len(channels[0].samples)
    assert n_times % rate == 0
    held = n_times // rate

    def column(width: int, values: Sequence[object]) -> bytes:
        cells = [str(value).encode("latin1").ljust(width) for value in values]
        assert all(len(cell) == width for cell in cells), values
        return b"".join(cells)

    header = b"".join(
        [
            b"\xffBIOSEMI",
            column(80, ["made up"]),
            column(80, ["SYNTHETIC"]),
            column(8, ["01.02.10"]),
            column(8, ["12.30.00"]),
            column(8, [256 * (n + 1)]),
            column(44, ["24BIT"]),
            column(8, [held if records is None else records]),
            column(8, [1]),
            column(4, [n]),
            column(16, [c.label for c in channels]),
            column(80, [c.transducer for c in channels]),
            column(8, [c.unit for c in channels]),
            column(8, [c.limits[0] for c in channels]),
            column(8, [c.limits[1] for c in channels]),
            column(8, [c.steps[0] for c in channels]),
            column(8, [c.steps[1] for c in channels]),
            column(80, ["HP: DC; LP: 113 Hz" for _ in channels]),
            column(8, [rate for _ in channels]),
            column(32, ["Reserved" for _ in channels]),
        ]
    )
    x = np.stack([c.samples for c in channels]).reshape(n, held, rate).transpose(1, 0, 2)
    four = np.ascontiguousarray(x, dtype="<i4").view(np.uint8).reshape(-1, 4)
    return header + four[:, :3].tobytes()


@dataclass
class Session:
    """A session in DEAP's form: physical values by label, onsets in samples."""

    values: dict[str, Array]
    onsets: list[int]
    number: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    scales: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    order: tuple[str, ...] | None = None
    offset: int | None = None

    @property
    def twente(self) -> bool:
        return self.number <= 22

    def status(self) -> NDArray[np.int64]:
        """Codes as the experiment's program sent them, above them what the amplifier adds."""
        codes = np.zeros(len(self.values["Fp1"]), dtype=np.int64)
        for onset in self.onsets:
            for code, at, n in ((3, -3 * RATE, 8), (4, 0, 40), (5, 100, 8)):
                codes[max(0, onset + at) : max(0, onset + at + n)] = code
        offset = self.offset
        if offset is None:
            offset = OFFSET if self.number >= 24 else 0
        return ((codes + offset + 2**23) % 2**24) - 2**23

    def channels(self) -> list[Channel]:
        """All 48 as integers, in the order of the site."""
        eeg = TWENTE if self.twente else GENEVA
        scales: dict[str, tuple[str, float, float]] = {**SCALES, **self.scales}
        if self.twente and "GSR1" not in self.scales:
            scales["GSR1"] = ("nS", -8388608, 8388607)
        made = []
        for name in self.order or (*eeg, *EXG, *OTHERS, "Status"):
            unit, low, high = scales.get(name, ELECTRODE)
            label = self.labels.get(name, name)
            channel = Channel(label, np.empty(0, dtype=np.int64), unit, (low, high))
            if name == "Status":
                channel.samples = self.status()
            else:
                steps = np.rint((self.values[name] - low) / channel.gain) + STEPS[0]
                channel.samples = np.clip(steps, *STEPS).astype(np.int64)
            made.append(channel)
        return made

    def write(self, folder: Path) -> Path:
        """`sXX.bdf` in a folder."""
        path = folder / f"s{self.number:02d}.bdf"
        path.write_bytes(bdf(self.channels()))
        return path


def made_up(
    number: int = 1, *, n_trials: int = 3, seconds: float = 2.0, gap: float = 1.0, seed: int = 0
) -> Session:
    """Noise on offsets, as electrodes without a reference have them, and skin that conducts."""
    rng = np.random.default_rng([seed, number])
    onsets = [round((gap + 3 + k * (gap + 3 + seconds)) * RATE) + 17 * k for k in range(n_trials)]
    n_times = -(-(onsets[-1] + round((seconds + gap) * RATE)) // RATE) * RATE
    values = {
        name: rng.normal(rng.uniform(-5000, 5000), 20, n_times)
        for name in (*GENEVA, *EXG, "GSR2", "Erg1", "Erg2", "Resp", "Plet")
    }
    nano = 5000 + 300 * np.sin(np.arange(n_times) / RATE) + rng.normal(0, 20, n_times)
    values["GSR1"] = nano if number <= 22 else 1e9 / nano
    values["Temp"] = 30 + rng.normal(0, 0.1, n_times)
    return Session(values, onsets, number)


def rows_of(
    number: int, n_trials: int, *, seed: int = 0, familiarity: bool = True
) -> list[dict[str, object]]:
    """Rows of the table of ratings: videos in an order of the participant's own."""
    rng = np.random.default_rng([seed, number, 1])
    videos = rng.permutation(n_trials) + 1
    return [
        {
            "Participant_id": number,
            "Trial": trial,
            "Experiment_id": int(videos[trial - 1]),
            "Start_time": 1_000_000 * trial,
            **{
                name: f"{rng.uniform(1, 9):.2f}"
                for name in ("Valence", "Arousal", "Dominance", "Liking")
            },
            "Familiarity": f"{rng.integers(1, 6)}" if familiarity else "",
        }
        for trial in range(1, n_trials + 1)
    ]


def table(rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> str:
    """The rows as text."""
    lines = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines)


def write_ratings(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """`participant_ratings.csv` in a folder."""
    path = folder / "participant_ratings.csv"
    path.write_text(table(rows), encoding="utf-8", newline="")
    return path
