"""DEAP's preprocessed files: what is read, what is left out, what is refused, what is written."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import pickletools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.base import Channels, Recording
from physiosync.recordings.deap import EEG_NAMES, PERIPHERALS, find_deap, read_deap, write_deap
from physiosync.recordings.py2pickle import read_arrays

Array = NDArray[np.float64]

SHAPE = (3, 40, 390)
ROWS = {
    "eeg": slice(0, 32),
    "gsr": slice(36, 37),
    "eog": slice(32, 34),
    "emg": slice(34, 36),
    "resp": slice(37, 38),
    "ppg": slice(38, 39),
    "temp": slice(39, 40),
}


def made_up(shape: tuple[int, int, int] = SHAPE) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    return rng.normal(0, 20, shape), rng.uniform(1, 9, (shape[0], 4))


def assert_holds(recording: Recording, data: Array, labels: Array) -> None:
    """Every number of the arrays is in the recording, where it belongs."""
    assert [trial.order for trial in recording.trials] == list(range(1, len(data) + 1))
    for trial, samples, ratings in zip(recording.trials, data, labels, strict=True):
        assert trial.stimulus == f"video-{trial.order:02d}"
        assert list(trial.ratings.values()) == ratings.tolist()
        assert list(trial.signals) == list(trial.baseline) == list(ROWS)
        for modality, rows in ROWS.items():
            expected = samples[rows].astype(np.float32)
            for found, right in (
                (trial.baseline[modality], expected[:, :384]),
                (trial.signals[modality], expected[:, 384:]),
            ):
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, right)


# --- what is read ---------------------------------------------------------------------------------


def test_every_number_comes_back(tmp_path: Path) -> None:
    data, labels = made_up()
    path = tmp_path / "S07.dat"
    write_deap(path, data, labels)

    recording = read_deap(path, shape=SHAPE)

    assert_holds(recording, data, labels)
    assert (recording.dataset, recording.subject, recording.source) == ("deap", "s07", path)
    assert recording.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert recording.left_out == ()
    assert list(recording.trials[0].ratings) == ["valence", "arousal", "dominance", "liking"]
    assert recording.modalities == {
        "eeg": Channels(EEG_NAMES, "uV", 128.0),
        "gsr": Channels(("GSR",), "Ohm", 128.0),
        "eog": Channels(("hEOG", "vEOG"), "uV", 128.0),
        "emg": Channels(("zEMG", "tEMG"), "uV", 128.0),
        "resp": Channels(("Resp",), "a.u.", 128.0),
        "ppg": Channels(("Plet",), "a.u.", 128.0),
        "temp": Channels(("Temp",), "degC", 128.0),
    }
    assert len(set(EEG_NAMES)) == 32
    assert len(PERIPHERALS) == 8


@pytest.mark.parametrize(
    ("name", "site"),
    [("s01", "Twente"), ("s22", "Twente"), ("s23", "Geneva"), ("s32", "Geneva"), ("s33", None)],
)
def test_where_a_person_was_recorded(tmp_path: Path, name: str, site: str | None) -> None:
    write_deap(tmp_path / f"{name}.dat", *made_up())
    assert read_deap(tmp_path / f"{name}.dat", shape=SHAPE).provenance.get("site") == site


def test_a_file_of_full_size_comes_back_without_needless_copies(tmp_path: Path) -> None:
    data, labels = made_up((40, 40, 8064))
    path = tmp_path / "s01.dat"
    write_deap(path, data, labels)
    tracemalloc.start()

    recording = read_deap(path)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_holds(recording, data, labels)
    assert recording.trials[0].signals["eeg"].shape == (32, 7680)
    # The file, and float32 of its float64: one and a half.
    assert peak < 1.6 * path.stat().st_size


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda x: x, id="C order"),
        pytest.param(np.asfortranarray, id="Fortran order"),
        pytest.param(lambda x: np.moveaxis(np.moveaxis(x, -1, 0).copy(), 0, -1), id="K order"),
        pytest.param(lambda x: np.repeat(x, 2, axis=-1)[..., ::2], id="every second"),
        pytest.param(lambda x: x.astype(">f8"), id="big-endian"),
        pytest.param(lambda x: np.frombuffer(x.tobytes()).reshape(x.shape), id="read-only"),
    ],
)
def test_files_saved_again_by_python_3_come_back(
    tmp_path: Path, protocol: int, form: Callable[[Array], Array]
) -> None:
    data, labels = made_up()
    path = tmp_path / "s01.dat"
    path.write_bytes(pickle.dumps({"labels": form(labels), "data": form(data)}, protocol))
    assert_holds(read_deap(path, shape=SHAPE), data, labels)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_1_and_python_3_named_the_same_things_elsewhere(
    tmp_path: Path, protocol: int
) -> None:
    data, labels = made_up()
    saved = pickle.dumps({"labels": labels, "data": data}, protocol)
    old, new = b"numpy.core.", b"numpy._core."
    if protocol < 4:
        saved = saved.replace(b"c" + new, b"c" + old)
    else:  # names follow their length, and the whole its own, in a frame
        for module in (b"numeric", b"multiarray"):
            length = len(old + module)
            longer, shorter = bytes([0x8C, length + 1]), bytes([0x8C, length])
            saved = saved.replace(longer + new + module, shorter + old + module)
        saved = saved[:2] + saved[11:]
    path = tmp_path / "s01.dat"
    path.write_bytes(saved)
    assert b"numpy._core" not in saved
    assert_holds(read_deap(path, shape=SHAPE), data, labels)


def test_float32_files_come_back(tmp_path: Path) -> None:
    data, labels = made_up()
    path = tmp_path / "s01.dat"
    path.write_bytes(pickle.dumps({"data": data.astype("f4"), "labels": labels.astype(">f4")}))
    assert_holds(read_deap(path, shape=SHAPE), data, labels.astype("f4"))


def test_signals_can_be_written_to_and_outlive_the_file(tmp_path: Path) -> None:
    data, labels = made_up()
    path = tmp_path / "s01.dat"
    path.write_bytes(pickle.dumps({"data": data.astype("f4"), "labels": labels}, 5))
    signal = read_deap(path, shape=SHAPE).trials[0].signals["gsr"]
    assert signal.flags.writeable
    assert signal.flags.c_contiguous


def test_a_shape_without_a_stimulus_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"> 384\), but got \(3, 40, 384\)"):
        read_deap(tmp_path / "s01.dat", shape=(3, 40, 384))


# --- what is written ------------------------------------------------------------------------------

# What cPickle of Python 2.7 makes of two arrays of numpy 1, with the numbers left out.
CPICKLE_START = (
    b"\x80\x02}q\x01(U\x06labelsq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq"
    b"\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K(K\x04\x86cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x05\x00\x00"
)
CPICKLE_MIDDLE = (
    b"tbU\x04dataq\x08h\x03h\x04K\x00\x85U\x01b\x87Rq\t(K\x01K(K(M\x80\x1f\x87h\x07"
    b"\x89T\x00\x00'\x06"
)
CPICKLE_END = b"tbu."


def test_the_bytes_are_those_of_python_2(tmp_path: Path) -> None:
    data = np.full((40, 40, 8064), 0.5)
    labels = np.full((40, 4), 5.0)
    path = tmp_path / "s01.dat"
    write_deap(path, data, labels)
    written = path.read_bytes()
    parts = CPICKLE_START, labels.tobytes(), CPICKLE_MIDDLE, data.tobytes(), CPICKLE_END
    assert written == b"".join(parts)


def test_the_opcodes_are_those_of_protocol_2(tmp_path: Path) -> None:
    data, labels = made_up()
    path = tmp_path / "s01.dat"
    write_deap(path, data, labels)
    printed = io.StringIO()
    pickletools.dis(path.read_bytes(), out=printed)
    assert printed.getvalue().endswith("highest protocol among opcodes = 2\n")


def test_stock_python_reads_what_is_written(tmp_path: Path) -> None:
    data, labels = made_up()
    path = tmp_path / "s01.dat"
    write_deap(path, np.asfortranarray(data), labels.astype(">f8"))
    with path.open("rb") as stream:
        # Unguarded on purpose: it is our own file of two lines above, and that stock Python can
        # read it is what is tested. The package itself never unpickles.
        stock = pickle.load(stream, encoding="latin1")
    assert list(stock) == ["labels", "data"]
    for found, right in ((stock["data"], data), (stock["labels"], labels)):
        assert found.dtype == np.dtype("<f8")
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("shape", [(31, 1, 255), (32, 1, 256), (2, 1, 65_535), (1, 1, 65_536)])
def test_stock_python_reads_lengths_of_any_size(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    data, _ = made_up(shape)
    path = tmp_path / "s01.dat"
    write_deap(path, data, data[:, :, 0])
    stock = pickle.loads(path.read_bytes(), encoding="latin1")
    np.testing.assert_array_equal(stock["data"], data)
    np.testing.assert_array_equal(stock["labels"], data[:, :, 0])


def test_arrays_of_another_form_are_not_written(tmp_path: Path) -> None:
    data, labels = made_up()
    with pytest.raises(ValueError, match="but got shapes"):
        write_deap(tmp_path / "s01.dat", data[0], labels)
    with pytest.raises(ValueError, match="less than 2 GiB"):
        write_deap(tmp_path / "s01.dat", np.broadcast_to(0.0, (40, 40, 200_000)), labels)
    assert list(tmp_path.iterdir()) == []


# --- what is left out -----------------------------------------------------------------------------


def constant(data: Array, trials: list[int], rows: slice) -> None:
    """Constant while the video runs, although not before."""
    data[trials, rows, 384:] = 3.25


@pytest.mark.parametrize(
    ("trials", "rows", "missing", "sentences"),
    [
        pytest.param(
            [0, 2],
            slice(7, 8),
            {},
            ["channel T7 kept, constant in 2 of 3 trials"],
            id="an EEG channel is kept",
        ),
        pytest.param(
            [1],
            slice(33, 34),
            {},
            ["channel vEOG kept, constant in 1 of 3 trials"],
            id="one of two EOG channels is kept",
        ),
        pytest.param(
            [1],
            slice(32, 34),
            {1: "eog"},
            ["eog left out where every eog channel is constant, 1 of 3 trials: video-02"],
            id="EOG is left out",
        ),
        pytest.param(
            [0, 1, 2],
            slice(36, 37),
            {0: "gsr", 1: "gsr", 2: "gsr"},
            [
                "gsr left out where every gsr channel is constant, 3 of 3 trials: "
                "video-01, video-02, video-03"
            ],
            id="GSR is left out everywhere",
        ),
    ],
)
def test_constant_channels_are_told(
    tmp_path: Path, trials: list[int], rows: slice, missing: dict[int, str], sentences: list[str]
) -> None:
    data, labels = made_up()
    constant(data, trials, rows)
    path = tmp_path / "s01.dat"
    write_deap(path, data, labels)

    recording = read_deap(path, shape=SHAPE)

    assert list(recording.left_out) == sentences
    for row, trial in enumerate(recording.trials):
        assert set(ROWS) - set(trial.signals) == ({missing[row]} if row in missing else set())
        assert list(trial.baseline) == list(trial.signals)
    everywhere = set(missing.values()) if len(missing) == 3 else set()
    assert set(ROWS) - set(recording.modalities) == everywhere


def test_a_trial_without_eeg_is_left_out_and_the_others_keep_their_names(tmp_path: Path) -> None:
    data, labels = made_up()
    constant(data, [1], slice(0, 37))
    path = tmp_path / "s01.dat"
    write_deap(path, data, labels)

    recording = read_deap(path, shape=SHAPE)

    assert [(t.stimulus, t.order) for t in recording.trials] == [("video-01", 1), ("video-03", 3)]
    assert recording.trials[1].ratings["valence"] == labels[2, 0]
    assert recording.left_out == (
        "whole trial left out where every eeg channel is constant, 1 of 3 trials: video-02",
    )


# --- what is refused ------------------------------------------------------------------------------


def saved(**arrays: object) -> bytes:
    return pickle.dumps(arrays, 2)


def changed(
    data: Array, labels: Array, *, sample: float | None = None, rating: float | None = None
) -> bytes:
    data, labels = data.copy(), labels.copy()
    if sample is not None:
        data[1, 36, 5] = sample
    if rating is not None:
        labels[2, 1] = rating
    return saved(data=data, labels=labels)


def lfs_pointer(data: Array, labels: Array) -> bytes:
    oid = hashlib.sha256(saved(data=data)).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 103220756\n"
    return pointer.encode()


REFUSED: dict[str, tuple[Callable[[Array, Array], bytes], str, str]] = {
    "empty": (lambda d, y: b"", "", "found 0 bytes, perhaps a pointer"),
    "git-lfs pointer": (lfs_pointer, "", "134 bytes, a git-lfs pointer to the data"),
    "another pointer": (lambda d, y: b"/annex/objects/MD5E" + b"-" * 100, "", "119 bytes, perhaps"),
    "a tenth is there": (lambda d, y: saved(data=d[:, :4]), "", "bytes, a truncated file"),
    "much too large": (lambda d, y: bytes(10**6), "", "expected about 374,400 bytes, found 1,000,"),
    "not a pickle": (lambda d, y: b"BIOSEMI" * 50_000, "pickle, byte 0", "starts with b'BI'"),
    "protocol 0": (lambda d, y: pickle.dumps([0] * 50_000, 0), "pickle, byte 0", "b'(l'"),
    "truncated": (lambda d, y: saved(data=d, labels=y)[:200_000], "pickle, byte 207", "truncated"),
    "no STOP": (lambda d, y: saved(data=d, labels=y)[:-1], "pickle", "found 0: the file is trunc"),
    "more behind": (lambda d, y: saved(data=d, labels=y) + b"..", "pickle", "found 2 more bytes"),
    "a list": (lambda d, y: pickle.dumps([d, y], 2), "pickle, byte 2", "found EMPTY_LIST"),
    "one array": (lambda d, y: pickle.dumps(d, 2), "pickle", "expected one dictionary"),
    "text in it": (lambda d, y: saved(data=d, labels="none"), "pickle", "found a text string"),
    "no labels": (lambda d, y: saved(data=d), "keys", "expected 'data', 'labels', found 'data'"),
    "another key": (lambda d, y: saved(data=d, labels=y, x=y), "keys", "'data', 'labels', 'x'"),
    "a number as key": (lambda d, y: pickle.dumps({1: d}, 2), "pickle", "short, distinct strings"),
    "transposed": (
        lambda d, y: saved(data=d.transpose(1, 0, 2), labels=y),
        "data",
        "expected shape (3, 40, 390), found shape (40, 3, 390), the axes in another order",
    ),
    "32 channels": (lambda d, y: saved(data=d[:, :32], labels=y), "data", "shape (3, 32, 390)"),
    "48 channels": (
        lambda d, y: saved(data=np.concatenate([d, d[:, :8]], axis=1), labels=y),
        "data",
        "found shape (3, 48, 390)",
    ),
    "short": (lambda d, y: saved(data=d[..., :300], labels=y), "data", "found shape (3, 40, 300)"),
    "two trials": (lambda d, y: saved(data=d[:2], labels=y), "data", "found shape (2, 40, 390)"),
    "two axes": (lambda d, y: saved(data=d.reshape(3, -1), labels=y), "data", "shape (3, 15600)"),
    "three ratings": (lambda d, y: saved(data=d, labels=y[:, :3]), "labels", "shape (3, 3)"),
    "ratings transposed": (lambda d, y: saved(data=d, labels=y.T), "labels", "another order"),
    "integers": (lambda d, y: saved(data=d.astype("i8"), labels=y), "pickle", "dtype 'i8'"),
    "half precision": (lambda d, y: saved(data=d.astype("f2"), labels=y), "", "dtype 'f2'"),
    "complex": (lambda d, y: saved(data=d.astype("c8"), labels=y), "pickle", "dtype 'c8'"),
    "structured": (lambda d, y: saved(data=d.view([("x", "f8")]), labels=y), "", "dtype 'V8'"),
    "objects": (
        lambda d, y: saved(labels=y.astype(object), data=d),
        "pickle",
        "expected float64 or float32 numbers (dtype 'f8' or 'f4'), found Python objects",
    ),
    "NaN": (
        lambda d, y: changed(d, y, sample=np.nan),
        "data, video-02, channel 36 (GSR), sample 5",
        "found nan",
    ),
    "Inf": (lambda d, y: changed(d, y, sample=-np.inf), "data, video-02, channel 36 (GSR)", "-inf"),
    "off scale": (
        lambda d, y: changed(d, y, sample=-1.5e9),
        "data, video-02, channel 36 (GSR), sample 5",
        "expected a number within 1e+09 Ohm, found -1500000000.0",
    ),
    "rating NaN": (lambda d, y: changed(d, y, rating=np.nan), "labels, video-03, arousal", "nan"),
    "rating 0": (lambda d, y: changed(d, y, rating=0.0), "labels, video-03, arousal", "found 0.0"),
    "rating 9.5": (
        lambda d, y: changed(d, y, rating=9.5),
        "labels, video-03, arousal",
        "expected a rating from 1 to 9, found 9.5",
    ),
    "no EEG": (
        lambda d, y: saved(data=np.where(np.arange(40)[:, None] < 32, 1.0, d), labels=y),
        "data",
        "expected EEG that varies, found constant channels only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused(tmp_path: Path, case: str) -> None:
    make, field, message = REFUSED[case]
    path = tmp_path / "s01.dat"
    path.write_bytes(make(*made_up()))
    with pytest.raises(RecordingError) as caught:
        read_deap(path, shape=SHAPE)
    assert caught.value.field.startswith(field)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("sample", "rating"), [(1e9, 1.0), (-1e9, 9.0)])
def test_the_ends_of_the_scales_are_read(tmp_path: Path, sample: float, rating: float) -> None:
    path = tmp_path / "s01.dat"
    path.write_bytes(changed(*made_up(), sample=sample, rating=rating))
    recording = read_deap(path, shape=SHAPE)
    assert recording.trials[1].baseline["gsr"][0, 5] == np.float32(sample)
    assert recording.trials[2].ratings["arousal"] == rating


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="expected a file, found nothing"):
        read_deap(tmp_path / "s01.dat")
    with pytest.raises(RecordingError, match="expected a file, found a folder"):
        read_deap(tmp_path)


# --- what would run code, crash, or fill the memory -----------------------------------------------


def text(value: str) -> bytes:
    utf8 = value.encode()
    return b"X" + len(utf8).to_bytes(4, "little") + utf8


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


# Each runs a shell command, its argument, if a stock unpickler meets it.
LIVE: dict[str, tuple[Callable[[str], bytes], str]] = {
    "GLOBAL os": (lambda run: named("os", "system") + text(run) + b"\x85R0", "os.system"),
    "GLOBAL posix": (lambda run: named("posix", "system") + text(run) + b"\x85R0", "posix.system"),
    "STACK_GLOBAL": (
        lambda run: text("os") + text("system") + b"\x93" + text(run) + b"\x85R0",
        "os.system",
    ),
    "Python 2's name": (
        lambda run: named("__builtin__", "eval")
        + text(f"__import__('os').system({run!r})")
        + b"\x85R0",
        "__builtin__.eval",
    ),
    "INST": (lambda run: b"(" + text(run) + b"ios\nsystem\n0", "INST"),
    "OBJ": (lambda run: b"(" + named("os", "system") + text(run) + b"o0", "os.system"),
}  # fmt: skip


def spliced(payload: bytes) -> bytes:
    """A file of the right size that starts with another program."""
    data, labels = made_up()
    return b"\x80\x02" + payload + saved(data=data, labels=labels)[2:]


@pytest.mark.parametrize("case", LIVE)
def test_code_in_a_file_is_refused_by_name_and_not_run(tmp_path: Path, case: str) -> None:
    make, message = LIVE[case]
    path, proof = tmp_path / "s01.dat", tmp_path / "ran"
    path.write_bytes(spliced(make(f"touch {proof}")))
    with pytest.raises(RecordingError) as caught:
        read_deap(path, shape=SHAPE)
    assert message in caught.value.found
    assert not proof.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs touch")
@pytest.mark.parametrize("case", LIVE)
def test_stock_pickle_would_have_run_that_code(tmp_path: Path, case: str) -> None:
    proof = tmp_path / "ran"
    pickle.loads(spliced(LIVE[case][0](f"touch {proof}")), encoding="latin1")
    assert proof.exists()


DTYPE = named("numpy", "dtype") + text("f8") + b"\x89\x88\x87R"
ORDER = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
EMPTY = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray")
EMPTY += b"K\x00\x85U\x01b\x87R"
ENCODE = named("_codecs", "encode")
EIGHT = b"U\x08" + bytes(8)


def array(
    shape: bytes = b"K\x01\x85", dtype: bytes = DTYPE + ORDER + b"b", raw: bytes = EIGHT
) -> bytes:
    return EMPTY + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"


def buffer(shape: bytes, order: str, axes: bytes = b"") -> bytes:
    function = named("numpy._core.numeric", "_frombuffer")
    return function + b"(" + EIGHT + DTYPE + ORDER + b"b" + shape + text(order) + axes + b"tR"


ABUSE: dict[str, tuple[bytes, str]] = {
    "another global of numpy": (named("numpy", "load"), "numpy.load"),
    "numpy that runs code": (
        named("numpy.testing._private.utils", "runstring"),
        "numpy.testing._private.utils.runstring",
    ),
    "the names split elsewhere": (named("numpy.core", "multiarray._reconstruct"), "no global but"),
    "pickle's own registry": (named("copyreg", "_reconstructor"), "copyreg._reconstructor"),
    "a name of two lines' length": (named("n" * 200, "x"), "a line of less than 64 characters"),
    "an unprintable name": (b"cn\xff\x1b\nx\n", r"n\xff\x1b.x"),
    "a global from a number": (b"K\x01K\x02\x93", "(unreadable).(unreadable)"),
    "an attribute of an attribute": (text("os") + text("path.os.system") + b"\x93", "os.path.os"),
    "an object of a class": (named("subprocess", "Popen") + b")\x81", "subprocess.Popen"),
    "the extension registry": (b"\x82\x01", "EXT1"),
    "a global from bytes": (b"C\x05numpyC\x05dtype\x93", "(unreadable).(unreadable)"),
    "a persistent id": (b"Ptaken\n", "PERSID"),
    "an out-of-band buffer": (b"\x97", "NEXT_BUFFER"),
    "no opcode at all": (b"\xfe", "none of pickle's"),
    "an array of another class": (
        named("numpy.core.multiarray", "_reconstruct") + DTYPE + b"K\x00\x85U\x01b\x87R",
        "a call that makes an array",
    ),
    "a huge array before its state": (
        named("numpy.core.multiarray", "_reconstruct")
        + named("numpy", "ndarray")
        + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85U\x01b\x87R",
        "a call that makes an array",
    ),
    "ndarray called": (named("numpy", "ndarray") + b"J\x00\x00\x00\x40\x85\x85R", "another call"),
    "dtype of objects, state from bytes": (
        array(dtype=named("numpy", "dtype") + text("O8") + b"\x89\x88\x87R" + ORDER + b"b"),
        "Python objects",
    ),
    "a long dtype": (named("numpy", "dtype") + text("f8," * 9999) + b"K\x00K\x01\x87R", "None"),
    "a dtype from a dtype": (named("numpy", "dtype") + DTYPE + b"K\x00K\x01\x87R", "dtype None"),
    "a dtype without its state": (array(dtype=DTYPE), "a dtype with its byte order"),
    "a dtype with fields": (
        DTYPE + ORDER.replace(b"NNN", b"N" + text("x") + b"\x85}") + b"b",
        "the state of an array or a dtype",
    ),
    "a dtype of native order": (DTYPE + ORDER.replace(b"<", b"=") + b"b", "byte order '<' or '>'"),
    "a dtype that changes": (DTYPE + ORDER + b"b" + ORDER + b"b", "another, for a Dtype"),
    "an array that changes": (
        array() + b"(K\x01K\x01\x85" + DTYPE + ORDER + b"b\x89" + EIGHT + b"tb",
        "another, for a Array",
    ),
    "state for a global": (named("numpy", "dtype") + b"}b", "another, for a Global"),
    "state for a dictionary": (b"}}b", "another, for a dict"),
    "too few bytes": (array(shape=b"K\x02\x85"), "expected 16 bytes for an array of shape (2,)"),
    "too many bytes": (array(raw=b"U\x10" + bytes(16)), "expected 8 bytes for an array of shape"),
    "a shape beyond all memory": (
        array(shape=b"\x8a\x08" + b"\xff" * 7 + b"\x7f" + b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x86"),
        "bytes for an array of shape (9223372036854775807, 9223372036854775807)",
    ),
    "a shape that wraps around to 8 bytes": (
        array(shape=b"\x8a\x05\x00\x00\x00\x00\x01" * 2 + b"K\x01\x87"),
        "bytes for an array of shape (4294967296, 4294967296, 1), found 8",
    ),
    "a negative shape": (array(shape=b"J\xff\xff\xff\xff" * 2 + b"\x86"), "positive integers"),
    "a negative long shape": (array(shape=b"\x8a\x01\xff\x85"), "positive integers"),
    "an empty axis": (array(shape=b"K\x00\x85", raw=b"U\x00"), "positive integers"),
    "truth as a shape": (array(shape=b"\x88\x85"), "positive integers"),
    "no axes": (array(shape=b")"), "positive integers"),
    "sixty axes": (array(shape=b"(" + b"K\x01" * 60 + b"t"), "1 to 4 positive integers"),
    "bytes as a shape": (array(shape=b"U\x01\x01"), "positive integers"),
    "text for bytes": (array(raw=text("12345678")), "expected an array's bytes, found a text"),
    "another layout": (
        buffer(b"K\x01\x85", "A"), "found 'A'"
    ),
    "axes without layout K": (buffer(b"K\x01\x85", "C", b"K\x00\x85"), "memory layout C, F, or K"),
    "axes in Fortran order": (buffer(b"K\x01\x85", "F", b"K\x00\x85"), "memory layout C, F, or K"),
    "layout K without axes": (buffer(b"K\x01\x85", "K"), "memory layout C, F, or K"),
    "one axis twice": (buffer(b"K\x01K\x01\x86", "K", b"K\x00K\x00\x86"), "memory layout C, F, or"),
    "dictionaries as axes": (buffer(b"K\x01K\x01\x86", "K", b"}}\x86"), "memory layout C, F, or K"),
    "a codec that inflates": (ENCODE + text("x") + text("zip") + b"\x86R", "another call"),
    "text that is not bytes": (ENCODE + text("\u20ac") + text("latin1") + b"\x86R", "other char"),
    "text that is not UTF-8": (
        ENCODE + b"X\x01\x00\x00\x00\xff" + text("latin1") + b"\x86R", "other characters"
    ),
    "a string beyond the file": (b"\x8e" + b"\xff" * 7 + b"\x3f", "the file is truncated"),
    "a string of negative length": (b"T\xff\xff\xff\xff", "the file is truncated"),
    "a frame beyond the file": (b"\x95" + b"\xff" * 8, "the file is truncated"),
    "an integer of 255 bytes": (b"\x8a\xff" + bytes(255), "an integer of at most 8 bytes"),
    "an integer of 2 GiB": (b"\x8b\xff\xff\xff\x7f", "LONG4"),
    "a memo of 32 GiB": (b"Nr\xff\xff\xff\xff", "LONG_BINPUT"),
    "a value never remembered": (b"h\x07", "a value remembered as 7"),
    "an empty stack": (b"R", "more values on the stack"),
    "a tuple across a mark": (b"N(\x85", "more values on the stack"),
    "no mark": (b"Nt", "a mark on the stack"),
    "a mark that is left": (b"(}", "one dictionary"),
    "two values": (b"N}", "expected one dictionary, found 2 values"),
    "keys for an array": (array() + b"U\x01aNs", "keys and values for a dictionary"),
    "a key without a value": (b"}(Nu", "keys and values for a dictionary"),
    "one key twice": (b"}(U\x01aNU\x01aNu", "short, distinct strings as keys"),
    "a dictionary in itself": (b"}q\x01U\x01ah\x01s", "expected an array as 'a', found a dict"),
    "an array without values": (b"}U\x01a" + EMPTY + b"s", "expected an array as 'a'"),
    "a bomb of pairs of pairs": (b"Nq\x01h\x01" + b"\x86q\x01h\x01" * 90 + b"\x86", "one dict"),
    "pairs of pairs as a shape": (array(b"K\x01" + b"q\x01h\x01\x86" * 90), "positive integers"),
    "pairs of pairs as a key": (b"}" + b"Nq\x01" + b"h\x01\x86q\x01" * 90 + b"Ns", "distinct"),
    "a thousand opcodes": (b"N0" * 500, "POP"),
    "a thousand opcodes that are known": (b"N" * 1000, "at most 500 opcodes, found more"),
}  # fmt: skip


@pytest.mark.parametrize("case", ABUSE)
def test_nothing_reaches_numpy_unchecked(case: str) -> None:
    program, message = ABUSE[case]
    with pytest.raises(RecordingError) as caught:
        read_arrays(b"\x80\x02" + program + b".", Path("s01.dat"))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_pieces_of_those_programs_make_an_array_when_they_fit() -> None:
    program = b"\x80\x02}U\x01a" + array() + b"s."
    assert read_arrays(program, Path("s01.dat"))["a"].tolist() == [0.0]
    # Python 2 on Windows wrote shapes as long integers.
    program = b"\x80\x02}U\x01a" + array(shape=b"\x8a\x01\x01\x85") + b"s."
    assert read_arrays(program, Path("s01.dat"))["a"].tolist() == [0.0]


def test_one_text_is_encoded_once() -> None:
    once = ENCODE + b"q\x01" + text("\xe9" * 4_000_000) + b"q\x02" + text("latin1") + b"q\x03\x86R"
    program = b"\x80\x02" + once + b"h\x01h\x02h\x03\x86R" * 90 + b"."
    tracemalloc.start()
    with pytest.raises(RecordingError, match="one dictionary"):
        read_arrays(program, Path("s01.dat"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(program)


# --- which files there are ------------------------------------------------------------------------


def test_files_are_found_in_numeric_order_and_strays_ignored(tmp_path: Path) -> None:
    names = ["s10.dat", "S02.DAT", "s1.dat", "s100.dat"]
    strays = [".DS_Store", "._s01.dat", "s03.dat.part", "s04.bdf", "s.dat", "xs05.dat", "s0x.dat"]
    for name in names + strays:
        (tmp_path / name).touch()
    (tmp_path / "s06.dat").mkdir()
    assert [path.name for path in find_deap(tmp_path)] == [
        "s1.dat",
        "S02.DAT",
        "s10.dat",
        "s100.dat",
    ]


def test_a_folder_without_files_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"expected a folder of DEAP files, found nothing"):
        find_deap(tmp_path / "deap")
    with pytest.raises(RecordingError, match=r"expected files s01\.dat, .*, found no files"):
        find_deap(tmp_path)
    (tmp_path / "data_original").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(RecordingError, match=r"among 2 others \(data_original, readme\.txt\)"):
        find_deap(tmp_path)
    with pytest.raises(RecordingError, match="a folder of DEAP files, found a file"):
        find_deap(tmp_path / "readme.txt")
    (tmp_path / "data_preprocessed_python").mkdir()
    (tmp_path / "data_preprocessed_python" / "s01.dat").touch()
    with pytest.raises(RecordingError, match="some in its folder data_preprocessed_python"):
        find_deap(tmp_path)


def test_two_files_of_one_subject_are_refused(tmp_path: Path) -> None:
    for name in ("s1.dat", "s01.dat"):
        (tmp_path / name).touch()
    with pytest.raises(RecordingError, match=r"one file per subject, found s01\.dat and s1\.dat"):
        find_deap(tmp_path)
