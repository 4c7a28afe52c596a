"""Hosts on this machine: namespaces on a bridge that nothing outside can see.

Each host has processes, network, mounts, name, home, /tmp, /run and /dev/shm of its own, an sshd,
and no way out. They share the machine's files, this Python environment (read-only) and `/shared`,
which stands for NFS. All namespaces hang on processes that this one started and end with them, so
nothing has a name that could be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import image

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
SHARED = Path("/shared")
NETWORK = "10.87.0"
LAUNCHER = "launcher"
_KINDS = ("net", "pid", "mnt", "uts", "ipc")


class CommandError(AssertionError):
    """A command on a host failed, or took too long; shows what it printed."""


@dataclass
class Host:
    """One host; `process` and `init` are None while it is down."""

    name: str
    address: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    init: int | None = None

    @property
    def home(self) -> Path:
        """Its home folder, as seen from this machine."""
        return self.folder / "home"


class Hosts:
    """A launcher and hosts like `head`, `worker-1` and `worker-2`, each reachable by the others.

    Parameters
    ----------
    folder : private homes and so on; not below a home folder or /shared
    names : of the hosts beside the launcher
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.hosts = {
            name: Host(name, f"{NETWORK}.{10 + n}", folder / name)
            for n, name in enumerate((LAUNCHER, *names))
        }
        self._claim: int | None = None
        self._made_shared = False
        self._bridge: subprocess.Popen[bytes] | None = None
        self._namespaces: set[str] = set()

    # ---- verbs

    def run(
        self, name: str, command: str, timeout: float = 60, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on a host as its user would; stderr goes where stdout goes.

        Raises
        ------
        CommandError
            If it fails (unless `check` is False) or takes longer than `timeout` seconds.
        """
        host = self.hosts[name]
        assert host.init is not None, f"{name} is down"
        shell = f"cd; source ~/.bashrc; {command}"
        words = [
            *("nsenter", "--target", str(host.init), "--net", "--mount", "--uts", "--ipc", "--pid"),
            *("env", "--ignore-environment", f"HOME={HOME}", "USER=root", "LANG=C.UTF-8"),
            *("TERM=dumb", f"PATH={image.PATH}"),
            *("timeout", "--kill-after=5", str(timeout), "bash", "-c", shell),
        ]
        # A file, as a daemon that the command leaves behind would keep a pipe open.
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout + 15
            )
            output.seek(0)
            text = output.read()
        if done.returncode in (124, 137) and time.monotonic() - began >= timeout:
            raise CommandError(f"{name}: {command!r} took longer than {timeout} s:\n{text}")
        if check and done.returncode:
            raise CommandError(f"{name}: {command!r} ended with {done.returncode}:\n{text}")
        return subprocess.CompletedProcess(words, done.returncode, text)

    def launch(
        self, command: str, timeout: float = 60, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the launcher, in its copy of the project."""
        return self.run(LAUNCHER, f"cd ~/project; {command}", timeout, check=check)

    def kill(self, name: str) -> None:
        """End all processes of a host at once; its files stay, as on a machine that was reset."""
        host = self.hosts[name]
        if host.process is None:
            return
        if host.init is not None and host.process.poll() is None:
            # Its namespaces' first process: the kernel ends all others with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(host.init, signal.SIGKILL)
        else:
            host.process.kill()
        host.process.wait(timeout=20)
        host.process = host.init = None

    def start(self, name: str) -> None:
        """Start a host, or one that was killed."""
        host = self.hosts[name]
        assert host.process is None, f"{name} is up"
        script = image.init_script(host.folder, name, self.shared, SHARED, HOME, REPOSITORY)
        host.process = _hang_on_us(
            *("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc"),
            *("--propagation", "private", "--mount-proc", "bash", "-euc", script),
            output=host.folder / "init.log",
        )
        host.init = _first_child(host.process)
        self._remember(host.init)
        self._plug(host)
        ready = "test -e /run/ready && ss -Hltn 'sport = :22' | grep -q ."
        _until(lambda: self._quietly(host, ready), 20, f"{name}: {host.folder / 'init.log'}")

    def cut(self, name: str) -> None:
        """Pull a host's network cable."""
        self._on_bridge("ip", "link", "set", _port(name), "down")

    def mend(self, name: str) -> None:
        """Put the cable back."""
        self._on_bridge("ip", "link", "set", _port(name), "up")

    # ---- all of them

    def open(self) -> None:
        """Make the network and start every host; waits for another session to end its own."""
        self._claim, self._made_shared = _claim(SHARED)
        script = "ip link add br0 type bridge; ip link set br0 up; touch {}; exec sleep infinity"
        ready = self.folder / "bridge"
        self._bridge = _hang_on_us(
            *("unshare", "--net", "bash", "-euc", script.format(shlex.quote(str(ready)))),
            output=self.folder / "bridge.log",
        )
        _until(ready.exists, 10, f"the bridge: {self.folder / 'bridge.log'}")
        self._remember(self._bridge.pid)
        image.make_key(self.folder)
        self.renew()

    def renew(self) -> None:
        """Replace every host and what they share by new ones."""
        addresses = {host.name: host.address for host in self.hosts.values()}
        for host in self.hosts.values():
            self.kill(host.name)
            shutil.rmtree(host.folder, ignore_errors=True)
            image.install(host.folder, HOME, addresses, self.folder)
        shutil.rmtree(self.shared, ignore_errors=True)
        self.shared.mkdir()
        for host in self.hosts.values():
            self.start(host.name)

    def close(self) -> None:
        """End all; AssertionError if anything of it is still there."""
        for name in self.hosts:
            self.kill(name)
        if self._bridge is not None:
            self._bridge.kill()
            self._bridge.wait(timeout=20)
        if self._made_shared:
            SHARED.rmdir()
        if self._claim is not None:
            os.close(self._claim)
        with contextlib.suppress(AssertionError):
            # The kernel clears up after the last process, not with it.
            _until(lambda: not self.leftovers(), 10, "leftovers")
        assert not self.leftovers()
        shutil.rmtree(self.folder)

    def leftovers(self) -> list[str]:
        """Processes in our namespaces, and mounts below our folder."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return [
            *(line for line in mounts if str(self.folder) in line),
            *(f"process {pid}" for pid, held in _namespaces() if held & self._namespaces),
        ]

    # ---- the network

    def _plug(self, host: Host) -> None:
        port, init = _port(host.name), str(host.init)
        # The kernel may not yet have cleaned up after a killed host.
        self._on_bridge("ip", "link", "delete", port, check=False)
        self._on_bridge("ip", "link", "add", port, "type", "veth", "peer", "eth0", "netns", init)
        self._on_bridge("ip", "link", "set", port, "master", "br0", "up")
        # The default route leads nowhere; Ray asks the kernel for the address behind it.
        script = (
            f"ip link set lo up; ip address add {host.address}/24 dev eth0; "
            f"ip link set eth0 up; ip route add default via {NETWORK}.1"
        )
        _call("nsenter", "--target", init, "--net", "bash", "-euc", script)

    def _on_bridge(self, *words: str, check: bool = True) -> None:
        assert self._bridge is not None
        _call("nsenter", "--target", str(self._bridge.pid), "--net", *words, check=check)

    def _remember(self, pid: int) -> None:
        mine = _namespaces_of(os.getpid())
        self._namespaces |= _namespaces_of(pid) - mine

    def _quietly(self, host: Host, command: str) -> bool:
        assert host.process is not None
        assert host.process.poll() is None, (host.folder / "init.log").read_text()
        return self.run(host.name, command, check=False).returncode == 0


def _port(name: str) -> str:
    return f"to-{name}"


def _claim(folder: Path) -> tuple[int, bool]:
    """A lock on a folder, which is made if there is none; and whether it was made.

    It is only mounted on; but were it removed, the mounts would go with it in all other namespaces.
    """
    while True:
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Who held it before may have removed the folder.
        if folder.exists() and os.path.samestat(folder.stat(), os.fstat(lock)):
            return lock, made
        os.close(lock)


def _hang_on_us(*words: str, output: Path) -> subprocess.Popen[bytes]:
    """Start a process that ends when this one does, however that ends."""
    with output.open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _first_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    _until(lambda: bool(children.read_text().split()), 10, f"no child of {process.pid}")
    return int(children.read_text().split()[0])


def _call(*words: str, check: bool = True) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    if check and done.returncode:
        raise CommandError(f"{shlex.join(words)}: {done.stderr}")


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(0.05)


def _namespaces_of(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in _KINDS}
    return set()


def _namespaces() -> Iterator[tuple[int, set[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), _namespaces_of(int(entry.name))


def missing() -> str | None:
    """Why hosts can't be made here, or None."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "hosts are Linux namespaces, which need root"
    tools = ("ip", "ss", "unshare", "nsenter", "setpriv", "sshd", "ssh", "ssh-keygen", "rsync")
    lost = [tool for tool in tools if shutil.which(tool, path=image.PATH) is None]
    return f"not installed: {', '.join(lost)}" if lost else None
