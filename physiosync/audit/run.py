"""All checks of one split, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from physiosync.audit.assignment import read_assignment
from physiosync.audit.barcodes import check_barcodes
from physiosync.audit.duplicates import check_duplicates
from physiosync.audit.membership import check_calibration, check_names, check_time
from physiosync.audit.pretraining import check_pretraining
from physiosync.audit.verdict import AuditReport, Verdict
from physiosync.config import Config
from physiosync.errors import StudyError
from physiosync.files import write_text
from physiosync.windows import WindowStore

#: Checks that stretches of one trial on both sides fail by themselves. Copies don't.
_LEAKS = frozenset({"trials", "neighbours", "pretraining", "trial barcodes"})


class _Kept(Config):
    """An audit on disk."""

    of: str
    """Digest of the split file and of the data."""
    report: AuditReport


def audit(
    store: WindowStore,
    split: Path,
    *,
    checkpoint: Path | None = None,
    measure_barcodes: bool = False,
) -> AuditReport:
    """Prove a split, or say what is wrong with it.

    Signals of all parts are compared; ratings are never read, and nothing but counts leaves here.

    Parameters
    ----------
    store : all shards that the split divides, with "eeg"
    split : its file; see `read_assignment` for the kinds
    checkpoint : a model folder whose pretraining is to be compared with the test part
    measure_barcodes : also where no trial is in two parts; takes longer

    Raises
    ------
    SplitError
        If the file is no division of these shards.
    CheckpointError
        If the checkpoint is missing or its record damaged.
    """
    assignment = read_assignment(split, store.trials, store.sfreq)
    pretraining = Verdict(
        check="pretraining",
        status="not applicable",
        number=None,
        said="no checkpoint was given",
    )
    if checkpoint is not None:
        pretraining = check_pretraining(store, assignment, checkpoint)
    verdicts = (
        *check_names(assignment),
        check_calibration(assignment),
        *check_time(assignment, store.sfreq),
        *check_duplicates(store, assignment),
        pretraining,
        check_barcodes(store, assignment, measure=measure_barcodes),
    )
    shared = next(v.number for v in verdicts if v.check == "trials")
    return AuditReport(protocol=assignment.protocol, leaky=bool(shared), verdicts=verdicts)


def audit_once(store: WindowStore, split: Path, path: Path) -> AuditReport:
    """The audit of a study's split, made anew only if the split or the data are others.

    Parameters
    ----------
    path : where it is kept, as JSON
    """
    of = _digest(store, split)
    kept = _read(path)
    if kept is None or kept.of != of:
        kept = _Kept(of=of, report=audit(store, split))
        write_text(path, kept.model_dump_json(indent=1))
    return kept.report


def audit_encoders(
    store: WindowStore, split: Path, path: Path, encoders: Sequence[Path]
) -> AuditReport:
    """Ask a study's encoders too, and keep what they say with the audit of its split.

    Parameters
    ----------
    path : where `audit_once` keeps it
    encoders : model folders; each gets a verdict that begins with the folder's name

    Raises
    ------
    CheckpointError
        If the record of one is damaged.
    """
    report = audit_once(store, split, path)
    assignment = read_assignment(split, store.trials, store.sfreq)
    asked = [
        verdict.model_copy(update={"said": f"{folder.name}: {verdict.said}"})
        for folder in encoders
        for verdict in [check_pretraining(store, assignment, folder)]
    ]
    others = [verdict for verdict in report.verdicts if verdict.check != "pretraining"]
    report = report.model_copy(update={"verdicts": (*others, *asked)})
    kept = _Kept(of=_digest(store, split), report=report)
    write_text(path, kept.model_dump_json(indent=1))
    return report


def demand_passed(report: AuditReport, split: Path) -> None:
    """Refuse to go on with a split whose audit failed.

    Under protocol "window" some checks fail because it is leaky, which is what it is there to show:
    they stay failed in every report, and the study goes on.

    Raises
    ------
    StudyError
        If any other check failed; it says which, and what was found.
    """
    leaks = _LEAKS if report.protocol == "window" else frozenset()
    failed = [
        f"{v.check}: {v.said}"
        for v in report.verdicts
        if v.status == "failed" and v.check not in leaks
    ]
    if failed:
        raise StudyError(
            f"{split}: expected an audit that passes, found {len(failed)} of its checks failed "
            f"({'; '.join(failed)}); no score of this study would say what it claims, so it stops. "
            "Correct or leave out these recordings, and begin again under another --name"
        )


def kept_audit(path: Path) -> AuditReport | None:
    """What `audit_once` kept; None if there is none.

    Raises
    ------
    StudyError
        If the file is damaged.
    """
    kept = _read(path)
    return None if kept is None else kept.report


def _digest(store: WindowStore, split: Path) -> str:
    return hashlib.sha256(split.read_bytes() + store.identity.encode()).hexdigest()


def _read(path: Path) -> _Kept | None:
    if not path.exists():
        return None
    try:
        return _Kept.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{path}: expected an audit, found {error}") from error
