"""The header of a BioSemi BDF file, read strictly, before any library believes it.

A reader that trusts a damaged header gives numbers all the same: a changed digit in a scale is
another amplitude, a changed record count another length. So every field that matters is parsed here
from plain digits and held against the others and against the file's size.

Layout: 256 bytes for the file, 256 for each channel, then records; in a record, the samples of one
channel after the other, 24-bit little-endian integers [1]_.

.. [1] BioSemi, "Which file format does BioSemi use", https://www.biosemi.com/faq/file_format.htm
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from physiosync.errors import RecordingError
from physiosync.recordings.base import require_file
from physiosync.recordings.numbered import instead_of_data

#: Bytes of the file's part of the header, and of each channel's.
_PART = 256
_BYTES_PER_SAMPLE = 3
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
#: No amplifier has more channels (BioSemi: 280).
_MOST_CHANNELS = 1000
#: Names under which MNE looks for text instead of samples.
_TEXT_CHANNELS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class BdfChannel:
    """One channel: where it is in the file, and what its integers stand for."""

    index: int
    label: str
    unit: str
    physical_min: float
    physical_max: float
    digital_min: int
    digital_max: int

    @property
    def gain(self) -> float:
        """Units a step."""
        return (self.physical_max - self.physical_min) / (self.digital_max - self.digital_min)

    @property
    def volts(self) -> float:
        """Volts in one unit, and 1 for a unit that is none of voltage; MNE gives volts."""
        return {"uV": 1e-6, "mV": 1e-3}.get(self.unit, 1.0)


@dataclass(frozen=True)
class BdfHeader:
    """What a sound header says.

    Parameters
    ----------
    sfreq : in Hz, of every channel
    n_times : samples of each channel that the file holds
    stated_records, n_records : as the header says (-1 where it doesn't), and as the file holds
    """

    channels: tuple[BdfChannel, ...]
    sfreq: float
    n_times: int
    stated_records: int
    n_records: int


def read_bdf_header(path: Path) -> BdfHeader:
    """Read and check the header of a BDF file.

    Fewer records in the header than in the file are let pass: whoever writes a file knows their
    number only at the end. More are not: the file is truncated.

    Raises
    ------
    RecordingError
        For a missing, truncated or foreign file, a field that is no plain number, scales that are
        none, channels of unequal rates, and a file that does not hold whole records.
    """
    require_file(path)
    size = path.stat().st_size
    with path.open("rb") as stream:
        raw = stream.read(_PART)
        if len(raw) < _PART or not raw.startswith(b"\xffBIOSEMI"):
            begins = f"{size:,} bytes that begin with {ascii(raw[:8])[1:]}"
            raise RecordingError(
                path,
                "header",
                expected="a BioSemi BDF file, which begins with \\xffBIOSEMI",
                found=begins + (instead_of_data(path) if size < 1024 else ""),
            )
        n_chans = int(_field(path, raw, 252, 4, "number of channels", _INTEGER))
        header_bytes = int(_field(path, raw, 184, 8, "size of the header", _INTEGER))
        if not 1 <= n_chans <= _MOST_CHANNELS or header_bytes != _PART * (n_chans + 1):
            raise RecordingError(
                path,
                "header",
                expected=f"{_PART} bytes for the file and for each of its channels",
                found=f"{header_bytes} bytes for {n_chans} channels",
            )
        rest = stream.read(_PART * n_chans)
    if len(rest) < _PART * n_chans:
        found = f"{size:,} bytes" + instead_of_data(path)
        raise RecordingError(path, "header", expected=f"{header_bytes:,} bytes", found=found)
    form = raw[192:236].strip().decode("latin1")
    if form != "24BIT":
        raise RecordingError(path, "data format", expected="24BIT", found=ascii(form))
    stated = int(_field(path, raw, 236, 8, "number of records", _INTEGER))
    seconds = float(_field(path, raw, 244, 8, "seconds of a record", _NUMBER))
    channels, n_samples = _channels(path, rest, n_chans)
    if seconds <= 0 or n_samples < 1:
        found = f"{n_samples} in {seconds:g} s"
        raise RecordingError(path, "record", expected="samples in a time above 0 s", found=found)
    n_records = _records(path, size - header_bytes, stated, n_chans * n_samples)
    return BdfHeader(
        channels=channels,
        sfreq=n_samples / seconds,
        n_times=n_records * n_samples,
        stated_records=stated,
        n_records=n_records,
    )


def _records(path: Path, n_bytes: int, stated: int, samples: int) -> int:
    """The number of records that a file of so many bytes after its header holds."""
    record = samples * _BYTES_PER_SAMPLE
    n_records, over = divmod(n_bytes, record)
    if stated < -1 or stated == 0:
        found = f"{stated}"
        raise RecordingError(path, "number of records", expected="1 or more, or -1", found=found)
    if n_records < max(stated, 1) or over:
        many = f"{stated}" if stated > 0 else "a whole number of"
        raise RecordingError(
            path,
            "data",
            expected=f"{many} records of {record:,} bytes",
            found=f"{n_records} and {over:,} bytes" + ", a truncated file" * (n_records < stated),
        )
    return n_records


def _channels(path: Path, rest: bytes, n_chans: int) -> tuple[tuple[BdfChannel, ...], int]:
    """The channels, and their common number of samples in a record."""
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    starts = [n_chans * sum(widths[:k]) for k in range(len(widths))]

    def text(field: int, k: int) -> str:
        at = starts[field] + widths[field] * k
        # Blanks go first: decoded, a byte that is none, as MNE sees it, could become one.
        return rest[at : at + widths[field]].strip().decode("latin1")

    def value(field: int, k: int, what: str, kind: re.Pattern[str]) -> str:
        where = f"channel {k + 1} ({ascii(text(0, k))[1:-1]}), {what}"
        return _field(path, rest, starts[field] + widths[field] * k, widths[field], where, kind)

    channels = []
    for k in range(n_chans):
        label = text(0, k)
        channel = BdfChannel(
            index=k,
            label=label,
            unit=text(2, k).replace("\xb5", "u").replace("\x83\xca", "u"),
            physical_min=float(value(3, k, "physical minimum", _NUMBER)),
            physical_max=float(value(4, k, "physical maximum", _NUMBER)),
            digital_min=int(value(5, k, "digital minimum", _INTEGER)),
            digital_max=int(value(6, k, "digital maximum", _INTEGER)),
        )
        limits = (channel.physical_min, channel.physical_max)
        steps = (channel.digital_min, channel.digital_max)
        if limits[0] >= limits[1] or not -(2**23) <= steps[0] < steps[1] < 2**23:
            raise RecordingError(
                path,
                f"channel {k + 1} ({ascii(label)[1:-1]}), scale",
                expected="rising physical and digital limits, the latter of 24 bits",
                found=f"{limits[0]:g} to {limits[1]:g} {channel.unit}, {steps[0]} to {steps[1]}",
            )
        if label in _TEXT_CHANNELS or not label.isprintable():
            expected, found = "a signal's name", ascii(label)
            raise RecordingError(path, f"channel {k + 1}", expected=expected, found=found)
        channels.append(channel)
    counts = [int(value(8, k, "samples in a record", _INTEGER)) for k in range(n_chans)]
    if len(set(counts)) > 1:
        odd = next(k for k, count in enumerate(counts) if count != counts[0])
        raise RecordingError(
            path,
            f"channel {odd + 1} ({ascii(text(0, odd))[1:-1]}), samples in a record",
            expected=f"{counts[0]}, as in the first channel",
            found=f"{counts[odd]}",
        )
    return tuple(channels), counts[0]


def _field(path: Path, raw: bytes, at: int, width: int, where: str, kind: re.Pattern[str]) -> str:
    """A number as plain digits, with nothing but spaces around."""
    text = raw[at : at + width].decode("latin1").strip(" ")
    if not kind.fullmatch(text):
        raise RecordingError(path, where, expected="a number", found=ascii(text))
    return text
