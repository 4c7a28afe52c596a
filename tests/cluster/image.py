"""What a host has installed before anyone says `ray up`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where cluster.yaml puts the environment; it is left alone if it is there.
VENV = ".physiosync/venv"

_SSHD = """\
HostKey {home}/.sshd/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
UsePAM no
UseDNS no
StrictModes no
PasswordAuthentication no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""

_PIP = """\
[install]
no-index = true
no-deps = true
"""

_RAY = """\
#!{python}
import sys
from ray.scripts.scripts import main
sys.exit(main())
"""

# One CPU a host, as they share the machine's few.
_BASHRC = """\
export RAY_OVERRIDE_RESOURCES='{"CPU": 1}'
"""


def make_key(folder: Path) -> None:
    """The user's key; its public half opens every host."""
    _keygen(folder / "id_ed25519")


def install(folder: Path, home: Path, addresses: Mapping[str, str], keys: Path) -> None:
    """Write a host's private files below `folder`.

    Parameters
    ----------
    home : where its home folder will be seen
    addresses : of all hosts by name
    keys : the folder given to `make_key`
    """
    name, mine = folder.name, folder / "home"
    for part in ("tmp", "empty", "home/.ssh", "home/.sshd", "home/.config/pip"):
        (folder / part).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    own = {"localhost": "127.0.0.1"} | dict(addresses)
    (folder / "hosts").write_text("".join(f"{ip} {host}\n" for host, ip in own.items()))
    (folder / "resolv.conf").write_text("")
    _keygen(mine / ".sshd/host_key")
    (mine / ".sshd/sshd_config").write_text(_SSHD.format(home=home))
    shutil.copy(keys / "id_ed25519.pub", mine / ".ssh/authorized_keys")
    if name == "launcher":
        shutil.copy(keys / "id_ed25519", mine / ".ssh/id_ed25519")
        _make_venv(mine / "project/.venv", home / "project/.venv")
        (mine / ".bashrc").write_text("export PATH=~/project/.venv/bin:$PATH\n")
    else:
        (mine / ".bashrc").write_text(_BASHRC)
        (mine / ".config/pip/pip.conf").write_text(_PIP)
        _make_venv(mine / VENV, home / VENV)


def init_script(
    folder: Path, name: str, shared: Path, shared_at: Path, home: Path, repository: Path
) -> str:
    """What the first process of a host does: mounts, sshd, and reaping whatever is orphaned.

    The repository is hidden, lest a host finds code there that nobody shipped.
    """
    private = {home: folder / "home", Path("/tmp"): folder / "tmp", repository: folder / "empty"}
    for place in list(private):
        if any(place != other and place.is_relative_to(other) for other in private):
            del private[place]
    lines = [f"hostname {name}"]
    for kept in _environment():
        inside = next((p for p in private if kept.is_relative_to(p)), None)
        at = kept if inside is None else private[inside] / kept.relative_to(inside)
        lines += [
            f"mkdir -p {_q(at)}",
            f"mount --bind {_q(kept)} {_q(at)}",
            f"mount -o remount,bind,ro {_q(at)}",
        ]
    lines += [
        f"mount --bind {_q(folder / 'hosts')} /etc/hosts",
        f"mount --bind {_q(folder / 'resolv.conf')} /etc/resolv.conf",
        f"mount --bind {_q(shared)} {_q(shared_at)}",
        "mount -t tmpfs -o size=512m tmpfs /dev/shm",
        "mount -t tmpfs tmpfs /run",
        "mkdir /run/sshd",
    ]
    # /tmp last: it may hide where all the others come from.
    for place in sorted(private, key=lambda p: p == Path("/tmp")):
        lines.append(f"mount --rbind {_q(private[place])} {_q(place)}")
    lines += [
        f"cd {_q(home)}",
        f"{_q(shutil.which('sshd', path=PATH) or 'sshd')} -f {_q(home / '.sshd/sshd_config')}",
        "touch /run/ready",
        "while :; do sleep 1000 & wait; done",
    ]
    return "\n".join(lines)


def _environment() -> list[Path]:
    """Folders that this Python environment consists of, outer ones first."""
    parts = {Path(sys.prefix), Path(sys.base_prefix), *_site_packages()}
    outer = [p for p in parts if not any(p != q and p.is_relative_to(q) for q in parts)]
    # The system's own are there anyway.
    return sorted(p for p in outer if p not in (Path("/usr"), Path("/usr/local")))


def _site_packages() -> list[Path]:
    return [Path(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))]


def _make_venv(folder: Path, seen_at: Path) -> None:
    """An environment with all dependencies of the package, but not the package.

    It sees the packages of this one by a .pth file. Such files among those packages are not read,
    so an editable install of the package is not seen.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    library = next(folder.glob("lib/python*/site-packages"))
    (library / "shared.pth").write_text("".join(f"{path}\n" for path in _site_packages()))
    ray = folder / "bin/ray"
    ray.write_text(_RAY.format(python=seen_at / "bin/python"))
    ray.chmod(0o755)


def _keygen(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "physiosync-test", "-f"]
    subprocess.run([*words, str(path)], check=True, timeout=30)


def _q(path: Path | str) -> str:
    return shlex.quote(str(path))
