"""Files of an object store: `s3://bucket/prefix`, on AWS or on any server that speaks its protocol.

Credentials come from where AWS's own tools look for them (AWS_ACCESS_KEY_ID and its like, ~/.aws,
the profile of a machine), never from a URL; another server than Amazon's is named by
AWS_ENDPOINT_URL. An outage of up to three minutes is waited for.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow.fs import AwsDefaultS3RetryStrategy, FileSelector, FileType, S3FileSystem

from physiosync.errors import RemoteError
from physiosync.files import atomic_path, causes

#: Tries of a request. Pauses double from 25 ms on, so these are 204 s, and these 1.6 s.
_PATIENT, _QUICK = 13, 6
_CHUNK = 1 << 24


def is_remote(path: Path) -> bool:
    """Whether a path is a URL of an object store; `Path` makes "s3:/bucket" of "s3://bucket"."""
    return path.parts[:1] == ("s3:",)


def url_of(path: Path) -> str:
    """The URL that a remote path stands for; any other path as it is."""
    return f"s3://{'/'.join(path.parts[1:])}" if is_remote(path) else str(path)


def working_folder(kind: str, url: str) -> Path:
    """Where this machine keeps its copies of what lies under a URL.

    In `$PHYSIOSYNC_WORK`, else `~/.cache/physiosync`. It has to be the same path on all nodes of a
    cluster, and needs not be shared.
    """
    given = os.environ.get("PHYSIOSYNC_WORK")
    root = Path(given) if given else Path.home() / ".cache" / "physiosync"
    return root.absolute() / kind / sha256(url.encode()).hexdigest()[:16]


class PatientS3(S3FileSystem):
    """The object store as this process's environment names it.

    Pickled, it holds nothing: it is made again wherever it arrives, so credentials never travel.

    Parameters
    ----------
    attempts : tries of each request
    """

    def __init__(self, attempts: int = _PATIENT) -> None:
        endpoint = urlsplit(_endpoint() or "")
        super().__init__(
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or "https",
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            retry_strategy=AwsDefaultS3RetryStrategy(max_attempts=attempts),
            # A small file is one request; a wrong bucket is then found out when it is closed.
            allow_delayed_open=True,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (PatientS3, ())


class Remote:
    """What lies under one URL. Names are relative to it, with "/" between their parts.

    An object appears whole or not at all.

    Parameters
    ----------
    url : "s3://bucket/prefix"
    patient : whether to wait for an outage of the store

    Raises
    ------
    RemoteError
        Here, if the URL is not of this form; from any method, if the store can't do it, with the
        reason.
    """

    def __init__(self, url: str, *, patient: bool = True) -> None:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^@?]*)?", url):
            # It may hold a key, so it is not repeated.
            raise RemoteError(
                "expected s3://bucket/prefix (credentials come from the environment, the server "
                "from AWS_ENDPOINT_URL), found another form of URL"
            )
        self.url = url.rstrip("/")
        self.path = self.url.removeprefix("s3://")
        self.file_system = PatientS3(_PATIENT if patient else _QUICK)

    def check(self) -> None:
        """See that objects can be written, listed, read and removed."""
        probe, token = f".probe-{uuid.uuid4().hex}", uuid.uuid4().hex
        self.write_text(probe, token)
        try:
            found = self.read_text(probe) if probe in self.sizes() else ""
        finally:
            self.remove(probe)
        if found != token:
            raise RemoteError(f"{self.url}: expected to read what was written, found another text")

    def sizes(self, under: str = "") -> dict[str, int]:
        """Name -> bytes of all objects, or of those in a folder."""
        where = f"{self.path}/{under}".rstrip("/")
        with self._said(under):
            found = self.file_system.get_file_info(
                FileSelector(where, recursive=True, allow_not_found=True)
            )
        return {
            info.path.removeprefix(f"{self.path}/"): info.size
            for info in found
            if info.type == FileType.File
        }

    def folders(self, under: str) -> set[str]:
        """Names of the folders right below one."""
        with self._said(under):
            found = self.file_system.get_file_info(
                FileSelector(f"{self.path}/{under}", allow_not_found=True)
            )
        return {info.base_name for info in found if info.type == FileType.Directory}

    def put(self, local: Path, name: str) -> None:
        """Upload a file."""
        # Mapped whole, because a stream that an error closes half-way would still be published.
        content = pa.memory_map(str(local)).read_buffer() if local.stat().st_size else b""
        self._write(name, content)

    def write_text(self, name: str, text: str) -> None:
        """Upload a text."""
        self._write(name, text.encode())

    def fetch(self, name: str, local: Path) -> None:
        """Download a file, in one step."""
        with (
            atomic_path(local) as part,
            part.open("wb") as sink,
            self._said(name),
            self.file_system.open_input_stream(f"{self.path}/{name}") as source,
        ):
            while chunk := source.read(_CHUNK):
                sink.write(chunk)

    def read_text(self, name: str) -> str:
        """Download a text."""
        with self._said(name), self.file_system.open_input_stream(f"{self.path}/{name}") as source:
            return bytes(source.read()).decode()

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._said(name):
            self.file_system.delete_file(f"{self.path}/{name}")

    def _write(self, name: str, content: object) -> None:
        with (
            self._said(name),
            self.file_system.open_output_stream(f"{self.path}/{name}") as sink,
        ):
            sink.write(content)

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """Turn the store's errors into ours; those of the local disk have a number."""
        try:
            yield
        except OSError as error:
            if error.errno is not None and not isinstance(error, FileNotFoundError):
                raise
            where = f"{self.url}/{name}".rstrip("/")
            raise RemoteError(f"{where}: {_reason(error)}") from None


def download(url: str, folder: Path) -> int:
    """Copy all that lies under a URL into a folder; returns how many files.

    Raises
    ------
    RemoteError
        If nothing does, or the store can't be read.
    """
    remote = Remote(url, patient=False)
    names = remote.sizes()
    if not names:
        raise RemoteError(f"{remote.url}: expected files under it, found none")
    for name in sorted(names):
        remote.fetch(name, folder / name)
    return len(names)


def outage_in(error: BaseException) -> RemoteError | None:
    """What an error of a library that uses the store itself, such as Ray Tune, comes from."""
    for cause in causes(error):
        if isinstance(cause, OSError) and "AWS Error" in str(cause):
            return RemoteError(
                f"the object store: {_reason(cause)}; what is done is kept, and the same command "
                "goes on once the store answers"
            )
    return None


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


_REFUSED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|EXPIRED_TOKEN|UNRECOGNIZED_"
    "CLIENT|InvalidToken|ExpiredToken|InvalidAccessKeyId|HTTP status 40[13]"
)


def _reason(error: OSError) -> str:
    """What the store's client said, in one line of ours, without any secret."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError):
        return "expected an object, found none"
    if "NO_SUCH_BUCKET" in text:
        return "expected a bucket of this name, found none"
    if _REFUSED.search(text):
        return (
            "expected credentials that may read and write here, found them refused; they are taken "
            "from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws or the machine's profile"
        )
    if "NETWORK_CONNECTION" in text or "REQUEST_TIMEOUT" in text:
        return f"expected an answer of {_endpoint() or 'AWS'}, found no connection"
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return f"expected it to work, found {text[:300]}"
