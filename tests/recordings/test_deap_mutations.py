"""Two thousand damaged or hostile DEAP files: each is read exactly or refused, and none runs.

The files are read in one child process under a memory limit and a clock, so that a crash, a hang or
a hunger for memory is seen. Whatever is read is held against what stock Python makes of the same
bytes. That is safe by then: the reader has let nothing pass but arrays.
"""

from __future__ import annotations

import pickle
import pickletools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.base import Recording
from physiosync.recordings.deap import read_deap, write_deap
from tests.recordings.mutants import assert_all_well, posix_only, print_result, result_of_child

SHAPE = (2, 40, 386)
N_MUTANTS = 2000
SEED = 20120101
MEMORY = 2 * 2**30  # bytes
ROWS = {
    "eeg": slice(0, 32),
    "gsr": slice(36, 37),
    "eog": slice(32, 34),
    "emg": slice(34, 36),
    "resp": slice(37, 38),
    "ppg": slice(38, 39),
    "temp": slice(39, 40),
}

Arrays = dict[str, NDArray[np.float64]]


def made_up(shape: tuple[int, int, int]) -> Arrays:
    rng = np.random.default_rng(SEED)
    return {"labels": rng.uniform(1, 9, (shape[0], 4)), "data": rng.normal(0, 20, shape)}


class Original:
    """A sound file, and where its opcodes and its numbers are."""

    def __init__(self, content: bytes, arrays: Arrays) -> None:
        self.content = content
        self.opcodes = [(info, at) for info, _, at in pickletools.genops(content)]
        raw = [array.tobytes("A") for array in arrays.values()]
        self.numbers = [_found(content, numbers) for numbers in raw if numbers in content]
        as_text = [str(numbers, "latin1").encode() for numbers in raw]
        taken = self.numbers + [_found(content, text) for text in as_text if text in content]
        inside = np.zeros(len(content), dtype=bool)
        for numbers in taken:
            inside[numbers.start : numbers.stop] = True
        self.header = np.flatnonzero(~inside)


def _found(content: bytes, part: bytes) -> range:
    at = content.index(part)
    return range(at, at + len(part))


def originals(folder: Path, arrays: Arrays) -> list[Original]:
    """As Python 2 wrote it, and as Python 3 saves it again."""
    path = folder / "s00.dat"
    write_deap(path, arrays["data"], arrays["labels"])
    fortran = {name: np.asfortranarray(array) for name, array in arrays.items()}
    return [
        Original(path.read_bytes(), arrays),
        *(Original(pickle.dumps(arrays, protocol), arrays) for protocol in (2, 3, 4, 5)),
        Original(pickle.dumps(fortran, 3), fortran),
    ]


# --- mutations: each takes a sound file and gives a damaged one -----------------------------------


def number_flipped(rng: Generator, original: Original, proof: Path) -> bytes:
    content = bytearray(original.content)
    where = original.numbers[rng.integers(len(original.numbers))]
    content[rng.integers(where.start, where.stop)] ^= 1 << rng.integers(8)
    return bytes(content)


def header_flipped(rng: Generator, original: Original, proof: Path) -> bytes:
    content = bytearray(original.content)
    content[rng.choice(original.header)] ^= 1 << rng.integers(8)
    return bytes(content)


def header_scrambled(rng: Generator, original: Original, proof: Path) -> bytes:
    content = bytearray(original.content)
    for at in rng.choice(original.header, size=rng.integers(1, 5)):
        content[at] = rng.integers(256)
    return bytes(content)


def opcode_changed(rng: Generator, original: Original, proof: Path) -> bytes:
    content = bytearray(original.content)
    _, at = original.opcodes[rng.integers(len(original.opcodes))]
    content[at] = ord(pickletools.opcodes[rng.integers(len(pickletools.opcodes))].code)
    return bytes(content)


def argument_changed(rng: Generator, original: Original, proof: Path) -> bytes:
    """A length, an axis, a number of the memo or of a dtype's state."""
    sizes = {"uint1": 1, "uint2": 2, "int4": 4, "uint8": 8}
    sizes |= dict.fromkeys(("string1", "bytes1", "unicodestring1"), 1)
    sizes |= dict.fromkeys(("string4", "bytes4", "unicodestring4"), 4)
    sizes |= dict.fromkeys(("bytes8", "bytearray8", "unicodestring8"), 8)
    counted = [(i, at) for i, at in original.opcodes if i.arg and i.arg.name in sizes]
    info, at = counted[rng.integers(len(counted))]
    size = sizes[info.arg.name]
    old = int.from_bytes(original.content[at + 1 : at + 1 + size], "little")
    values = [0, 1, old + 1, old - 1, old * 2, old // 2, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)]
    new = values[rng.integers(len(values))] % 2 ** (8 * size)
    return (
        original.content[: at + 1]
        + new.to_bytes(size, "little")
        + original.content[at + 1 + size :]
    )


def dtype_changed(rng: Generator, original: Original, proof: Path) -> bytes:
    kinds = [b"O8", b"O4", b"i8", b"u8", b"f2", b"f4", b"f9", b"c8", b"V8", b"S8", b"U2", b"M8"]
    return original.content.replace(b"f8", kinds[rng.integers(len(kinds))])


def truncated(rng: Generator, original: Original, proof: Path) -> bytes:
    cut = rng.choice([*original.header, *rng.integers(len(original.content), size=1000)])
    return original.content[:cut]


def chunk_moved(rng: Generator, original: Original, proof: Path) -> bytes:
    """Some bytes are gone, doubled, or put in another place."""
    content = original.content
    start, end = np.sort(rng.choice(original.header, size=2))
    to = rng.choice(original.header)
    chunk = content[start : min(end, start + 200)]
    gone = content[:start] + content[start + len(chunk) :]
    return [gone, content[:to] + chunk + content[to:], gone[:to] + chunk + gone[to:]][
        rng.integers(3)
    ]


def spliced(rng: Generator, original: Original, payload: bytes) -> bytes:
    """The payload at the start of an opcode, without the frames that would no longer fit."""
    starts = [at for info, at in original.opcodes if info.name not in ("PROTO", "FRAME")]
    at = starts[rng.integers(len(starts))]
    frame = original.content.find(b"\x95", 2, 3)
    head = original.content[:2] + original.content[11:at] if frame == 2 else original.content[:at]
    return head + payload + original.content[at:]


def hostile(rng: Generator, original: Original, proof: Path) -> bytes:
    """A program that makes a file if it runs, and leaves the stack as it was."""
    run = f"touch {proof}".encode()
    path = str(proof).encode()
    text, file = (b"X" + len(s).to_bytes(4, "little") + s for s in (run, path))
    code = f"open({str(proof)!r}, 'w')".encode()
    python = b"X" + len(code).to_bytes(4, "little") + code
    payloads = [
        b"cos\nsystem\n" + text + b"\x85R0",
        b"cposix\nsystem\n" + text + b"\x85R0",
        b"c__builtin__\neval\n" + python + b"\x85R0",
        b"cbuiltins\nexec\n" + python + b"\x85R0",
        b"cbuiltins\nopen\n" + file + b"X\x01\x00\x00\x00w\x86R0",
        b"cpathlib\nPath.touch\n" + file + b"\x85R0",
        b"\x8c\x02os\x8c\x06system\x93" + text + b"\x85R0",
        b"(" + text + b"ios\nsystem\n0",
        b"(cos\nsystem\n" + text + b"o0",
        b"cnumpy.testing._private.utils\nrunstring\n" + python + b"}\x86R0",
        b"cnumpy.lib._datasource\nopen\n" + file + b"X\x01\x00\x00\x00w\x86R0",
        b"ctimeit\ntimeit\n" + python + b"\x85R0",
        b"ccode\ninteract\n)R0",
        b"ccopyreg\n__reduce_ex__\n0",
        b"\x82\x010",
        b"Pfile\n0",
    ]
    return spliced(rng, original, payloads[rng.integers(len(payloads))])


def bomb(rng: Generator, original: Original, proof: Path) -> bytes:
    """Asks for memory, time or depth, or for an array that was never there."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    objects = (
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K?tb"
    )
    pointers = b"(K\x01K\x02\x85" + objects + b"\x89U\x10AAAAAAAABBBBBBBBtb"
    payloads = [
        b"N\x72\xff\xff\xff\xff0",
        b"\x8e" + b"\xff" * 7 + b"\x00",
        b"B\xff\xff\xff\x7f",
        b"\x96" + b"\x00" * 7 + b"\x20",
        b"\x95" + b"\xff" * 8,
        b"\x8b\xff\xff\xff\x7f",
        b"Nq\xf0" + b"h\xf0\x86q\xf0" * 200,
        b"N" + b"\x85" * 5000,
        b"(" * 100_000,
        b"}q\xf0h\xf0s",
        reconstruct + b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85U\x01b\x87R0",
        b"cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85\x85R0",
        reconstruct + b"K\x00\x85U\x01b\x87R" + pointers + b"0",
        b"cnumpy._core.numeric\n_frombuffer\n(U\x08AAAAAAAA" + objects + b"K\x01\x85U\x01CtR0",
        b"c_codecs\nencode\nU\x03zipU\x03zip\x86R0",
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNK\x64K\x64K?tb0",
    ]  # fmt: skip
    return spliced(rng, original, payloads[rng.integers(len(payloads))])


Mutation = Callable[[Generator, Original, Path], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    number_flipped,
    header_flipped,
    header_scrambled,
    opcode_changed,
    argument_changed,
    dtype_changed,
    truncated,
    chunk_moved,
    hostile,
    bomb,
)


# --- the child that reads them --------------------------------------------------------------------


def difference(recording: Recording, arrays: Arrays) -> str:
    """What a recording holds that the arrays do not, in float32; "" if nothing."""
    for trial in recording.trials:
        row = trial.order - 1
        if list(trial.ratings.values()) != arrays["labels"][row].tolist():
            return f"ratings of {trial.stimulus}"
        for modality, found in trial.signals.items():
            right = arrays["data"][row, ROWS[modality]].astype(np.float32)
            whole = np.concatenate([trial.baseline[modality], found], axis=1)
            if not np.array_equal(whole, right):
                return f"{modality} of {trial.stimulus}"
    complete = all(len(trial.signals) == len(ROWS) for trial in recording.trials)
    if not recording.left_out and not (complete and len(recording.trials) == SHAPE[0]):
        return "something left out, but not told"
    return ""


def outcome(mutation: Mutation, content: bytes, path: Path, arrays: Arrays) -> str:
    """ "refused", "exact", "changed" (as the bytes say), or what went wrong."""
    path.write_bytes(content)
    try:
        recording = read_deap(path, shape=SHAPE)
    except RecordingError as error:
        return "refused" if str(path) in str(error) else "an error without the file's name"
    stock = pickle.loads(content, encoding="latin1")
    named = {key.decode() if isinstance(key, bytes) else key: stock[key] for key in stock}
    if wrong := difference(recording, named):
        return f"{wrong}: not what the file says"
    n_changed = sum(np.sum(named[name] != array) for name, array in arrays.items())
    if mutation is number_flipped and n_changed != 1:
        return f"{n_changed} numbers changed instead of one"
    return "changed" if n_changed else "exact"


def read_mutants(folder: Path) -> dict[str, Any]:
    """Read all mutants; how often each mutation came to each outcome."""
    arrays = made_up(SHAPE)
    sound = originals(folder, arrays)
    path, proof = folder / "s01.dat", folder / "ran"
    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    for index in range(N_MUTANTS):
        mutation = MUTATIONS[index % len(MUTATIONS)]
        with_numbers = [original for original in sound if original.numbers]
        choice = with_numbers if mutation is number_flipped else sound
        original = choice[rng.integers(len(choice))]
        content = mutation(rng, original, proof)
        try:
            result = outcome(mutation, content, path, arrays)
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        counts[f"{mutation.__name__}: {result}"] += 1
    return {"ran": proof.exists(), "counts": counts}


def main() -> None:
    print_result(lambda: read_mutants(Path(sys.argv[1])), MEMORY)


@posix_only
def test_mutants_are_read_exactly_or_refused(tmp_path: Path) -> None:
    result = result_of_child(__file__, str(tmp_path), seconds=120)
    counts = result["counts"]
    assert not result["ran"]
    assert_all_well(counts, N_MUTANTS, ("refused", "exact", "changed"))
    each = N_MUTANTS // len(MUTATIONS)
    for name in ("dtype_changed", "truncated", "hostile", "bomb"):
        assert counts[f"{name}: refused"] == each
    # Neither a reader that refuses everything passes, nor one that looks at no header.
    assert counts["number_flipped: changed"] > each / 2
    assert counts["header_flipped: refused"] > each / 2


# --- at full size ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    arrays = made_up((40, 40, 8064))
    path = tmp_path_factory.mktemp("deap") / "s01.dat"
    write_deap(path, arrays["data"], arrays["labels"])
    return path, arrays


def patch(path: Path, at: int, content: bytes) -> bytes:
    """Put bytes into a file; those that were there."""
    with path.open("r+b") as stream:
        stream.seek(at)
        before = stream.read(len(content))
        stream.seek(at)
        stream.write(content)
    return before


def test_a_flipped_bit_at_full_size_changes_one_number(full_size: tuple[Path, Arrays]) -> None:
    path, arrays = full_size
    trial, channel, sample = 17, 36, 5000
    index = np.ravel_multi_index((trial, channel, sample), arrays["data"].shape)
    at = path.stat().st_size - 4 - arrays["data"].nbytes + 8 * int(index)
    number = arrays["data"][trial, channel, sample]
    before = patch(path, at, np.float64(-number).tobytes())

    recording = read_deap(path)

    patch(path, at, before)
    assert before == number.tobytes()
    for read, right in zip(recording.trials, arrays["data"].astype(np.float32), strict=True):
        if read.order == trial + 1:
            right[channel, sample] *= -1
        for modality, rows in ROWS.items():
            np.testing.assert_array_equal(read.signals[modality], right[rows, 384:])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K(K(M\x80\x1f\x87", b"M\x80\x1fK(K(\x87", "the axes in another order"),
        (b"T\x00\x00'\x06", b"T\x00\x00'\x7f", "the file is truncated"),
        (b"M\x80\x1f\x87", b"M\x81\x1f\x87", "bytes for an array of shape"),
    ],
    ids=["transposed", "a length of 2 GB", "a sample more"],
)
def test_a_damaged_header_at_full_size_is_refused(
    full_size: tuple[Path, Arrays], old: bytes, new: bytes, message: str
) -> None:
    path, _ = full_size
    with path.open("rb") as stream:
        at = stream.read(4096).index(old)
    patch(path, at, new)
    with pytest.raises(RecordingError, match=message):
        read_deap(path)
    patch(path, at, old)


if __name__ == "__main__":
    main()
