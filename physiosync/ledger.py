"""study.json: what a study is, and how often its test part was opened."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import physiosync
from physiosync.errors import StudyError
from physiosync.files import write_text


class Ledger:
    """The study.json of one folder.

    Parameters
    ----------
    folder : the study's
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / "study.json"

    def read(self) -> dict[str, Any]:
        """The whole of it; empty for a new study."""
        if not self._path.exists():
            return {}
        try:
            content: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StudyError(f"{self._path}: expected JSON, found {error}") from error
        if not isinstance(content, dict) or "identity" not in content:
            raise StudyError(f"{self._path}: expected a study's identity, found none")
        return content

    def bind(self, identity: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Write down what the study is, or check that it is still the same.

        Parameters
        ----------
        identity : all that changes results, flat
        options : the rest, kept for the record

        Raises
        ------
        StudyError
            If the folder holds a study of another identity, with the differences: settings first,
            then what only digests tell, which may follow from them.
        """
        plain = _as_stored(identity)
        content = self.read()
        before = content.get("identity", plain)
        self._compare(before, plain, before.keys() | plain.keys())
        content |= {"identity": plain, "options": dict(options), "versions": _versions()}
        content.setdefault("created", _now())
        content.setdefault("git_revision", _revision())
        content.setdefault("test_openings", [])
        self._write(content)

    def fingerprint(self) -> str:
        """Of the identity that the folder is bound to."""
        text = json.dumps(self.read()["identity"], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, part: Mapping[str, Any]) -> None:
        """Check what is known of the identity before anything is written; see `bind`."""
        if before := self.read().get("identity"):
            self._compare(before, _as_stored(part), part.keys())

    def _compare(
        self, before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]
    ) -> None:
        named, digests = [], []
        for key in sorted(keys):
            was, now_is = before.get(key), now.get(key)
            if was == now_is:
                continue
            if isinstance(was, dict) and isinstance(now_is, dict):
                parts = [
                    k for k in sorted(was.keys() | now_is.keys()) if was.get(k) != now_is.get(k)
                ]
                digests.append(f"  {key} by the code: another {', '.join(parts)}")
            elif key == "data":
                digests.append("  data: other samples, channels, names or ratings")
            else:
                named.append(f"  {key}: was {was!r}, is {now_is!r}")
        if named or digests:
            raise StudyError(
                f"{self.folder} holds a study of another configuration:\n"
                + "\n".join(named + digests)
                + "\nGo back to it, or give this one another --name."
            )

    def opened_test(self, reason: str, *, trials: int) -> int:
        """Count an opening of the test part; returns how many there were.

        Parameters
        ----------
        trials : of the search, that had ended by then
        """
        content = self.read()
        content["test_openings"].append({"when": _now(), "what": reason, "trials": trials})
        self._write(content)
        return len(content["test_openings"])

    def _write(self, content: Mapping[str, Any]) -> None:
        write_text(self._path, json.dumps(content, indent=1, default=str))


def _as_stored(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Through JSON, so that tuples and lists compare as they are stored."""
    stored: dict[str, Any] = json.loads(json.dumps(identity))
    return stored


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    names = ("torch", "ray", "optuna", "numpy", "scikit-learn", "pyarrow", "mne")
    return {
        "physiosync": physiosync.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _revision() -> str | None:
    """The git revision of the code, "+" if it was changed; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
