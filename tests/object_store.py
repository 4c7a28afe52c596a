"""An S3 server of our own on loopback, that tests can stop and start."""

from __future__ import annotations

import logging
import urllib.request
from pathlib import Path

from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

SECRET = "wJalr-secret-of-the-tests"


class ObjectStore:
    """A server with the bucket "lab"; its content outlives `stop`."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.port = 0
        self.start()
        self._post("reset")
        self._client().create_dir("lab")

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Have it answer, at the address that it had."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Answer no more."""
        self._server.stop()

    def demand_credentials(self, demanded: bool) -> None:
        """Refuse requests whose key nobody was given; at first all are taken."""
        self._post("reset-auth", b"0" if demanded else b"inf")

    def files(self, prefix: str = "lab") -> dict[str, bytes]:
        """Name -> content of all objects below."""
        from pyarrow.fs import FileSelector, FileType

        client = self._client()
        found = client.get_file_info(FileSelector(prefix, recursive=True, allow_not_found=True))
        return {
            info.path.removeprefix(f"{prefix}/"): client.open_input_stream(info.path).read()
            for info in found
            if info.type == FileType.File
        }

    def empty(self) -> None:
        """Remove all objects."""
        self._client().delete_dir_contents("lab")

    def damage(self, path: str) -> None:
        """Overwrite an object."""
        with self._client().open_output_stream(path) as stream:
            stream.write(b"damaged")

    def _client(self) -> S3FileSystem:
        return S3FileSystem(
            access_key="tests",
            secret_key=SECRET,
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.port}",
            allow_bucket_creation=True,
        )

    def _post(self, action: str, data: bytes = b"") -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/moto-api/{action}",
            data,
            {"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(request).close()


def damaged_copy(path: Path) -> None:
    """Change a byte in the middle of a file, and neither its size nor its name."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
