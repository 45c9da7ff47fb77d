"""Several worker processes, one scrape: each writes its numbers to a folder, any of them shows all.

Each member of the folder has a file of numbers, which it replaces whole, and holds a lock on
another as long as it lives. So a reader never sees half a file, and the kernel itself tells which
members are gone, however they went. What the gone ones counted is added up in one file, so that
counters never go back and the folder does not grow with every restart; their gauges go.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

try:
    import fcntl
except ModuleNotFoundError:  # pragma: no cover - a matter of the system
    _LOCKS = False
else:
    _LOCKS = True

from smallmind_engine.telemetry import ReasonCode, renew_in_child
from smallmind_engine.telemetry.errors import ExporterError
from smallmind_exporters.metrics.store import Snapshot, cumulative, merge
from smallmind_exporters.prometheus.exchange import snapshot_from_json, snapshot_to_json

WRITE_INTERVAL_S: Final = 1.0

_NUMBERS: Final = ".numbers.json"
_LOCK: Final = ".lock"
_GONE: Final = "gone.json"
_GUARD: Final = "gone.guard"


class ProcessFolder:
    """One member of a folder of processes.

    The member is alive until this object is let go of, or its process ends.

    Attributes:
        failures: how often the thread could not write the numbers.

    Args:
        folder: shared by all workers, on a local disk; made when it is not there. Empty it before
            the first worker starts: what earlier runs counted would be counted on.
        own: the numbers of this member, now.
        interval_s: how often the numbers are written, when they have changed.

    Raises:
        ExporterError: the folder cannot be used, or the system has no file locks.
    """

    def __init__(
        self, folder: Path, own: Callable[[], Snapshot], interval_s: float = WRITE_INTERVAL_S
    ) -> None:
        if not _LOCKS:  # pragma: no cover - a matter of the system
            raise _unusable(folder, "this system has no locks on files (fcntl)")
        self.folder: Final = folder
        self._own = own
        self._interval_s = interval_s
        self.failures = 0
        self._new_locks()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._join()
            self.write()
        except OSError as error:
            raise _unusable(folder, str(error)) from error
        renew_in_child(self)
        _write_at_exit(self)

    def _new_locks(self) -> None:
        self._lock = threading.RLock()
        self._stop: threading.Event | None = None

    def _join(self) -> None:
        """Become a member; under the guard, or a reader could take us for gone at once."""
        self._id = f"{os.getpid()}-{uuid4().hex}"
        self._written = ""
        with self._guarded():
            descriptor = os.open(self._path(_LOCK), os.O_CREAT | os.O_RDWR, 0o600)
            self._let_go = weakref.finalize(self, os.close, descriptor)
            self._let_go.atexit = False  # the last numbers are written at exit, in whatever order
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self._id}{ending}"

    def begin_in_child(self) -> None:
        """Become a member of its own, as in a forked child."""
        writes = self._stop is not None
        self._new_locks()
        with contextlib.suppress(OSError):
            self._let_go()  # the parent stays locked in: it holds the same lock
            self._join()
        if writes:
            self.start()

    def start(self) -> None:
        """Write the numbers from now on, from a thread. Has no effect when it does already."""
        with self._lock:
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(
                    target=_write_on,
                    args=(weakref.ref(self), self._stop, self._interval_s),
                    name="smallmind-processes",
                    daemon=True,
                ).start()

    def stop(self) -> None:
        """Write the last numbers, and no more until the next start."""
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Replace the file of this member, when its numbers have changed.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            text = snapshot_to_json(self._own())
            if not self._path(_LOCK).exists():  # someone emptied the folder
                self._let_go()
                self._join()
            if text != self._written:
                _replace(self._path(_NUMBERS), text)
                self._written = text

    def others(self) -> list[Snapshot]:
        """The numbers of the other members as last written, and what the gone ones counted.

        Raises:
            OSError: the folder cannot be read.
        """
        with self._lock, self._guarded():
            gone, buried = _read_gone(self.folder)
            living: list[Snapshot] = []
            newly_gone: list[str] = []
            for path in sorted(self.folder.glob(f"*{_LOCK}")):
                member = path.name.removesuffix(_LOCK)
                if member == self._id or member in buried:
                    continue
                held = _is_held(path)  # first: what is read after it is the last of a gone one
                snapshot = _read(self.folder / f"{member}{_NUMBERS}")
                if held:
                    living.append(snapshot)
                else:
                    merge(gone, cumulative(snapshot))
                    newly_gone.append(member)
            if newly_gone or buried:
                _bury(self.folder, gone, [*buried, *newly_gone])
        return [gone, *living]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """One at a time, over all processes: two readers would count a gone member twice."""
        with (self.folder / _GUARD).open("wb") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            try:
                yield
            finally:  # not left to closing: a child forked meanwhile has the file open too
                fcntl.flock(guard, fcntl.LOCK_UN)


def _write_on(member: weakref.ref[ProcessFolder], stop: threading.Event, interval_s: float) -> None:
    """What the thread does; it keeps no member alive."""
    while not stop.wait(interval_s):
        folder = member()
        if folder is None:
            return
        try:
            folder.write()
        except Exception:  # noqa: BLE001 - a full disk, say, which may have room later
            folder.failures += 1
        del folder


_members: Final[weakref.WeakSet[ProcessFolder]] = weakref.WeakSet()


def _write_at_exit(member: ProcessFolder) -> None:
    if not _members:
        atexit.unregister(_write_all)
        atexit.register(_write_all)
    _members.add(member)


def _write_all() -> None:
    for member in list(_members):
        with contextlib.suppress(Exception):
            member.write()


def _read_gone(folder: Path) -> tuple[Snapshot, list[str]]:
    """What gone members counted, and those of them whose files may still be there."""
    try:
        document = json.loads((folder / _GONE).read_text(encoding="utf-8"))
        return snapshot_from_json(document["numbers"]), list(document["members"])
    except FileNotFoundError:
        return {}, []
    except (KeyError, TypeError, ValueError):  # of another version
        return {}, []


def _bury(folder: Path, gone: Snapshot, members: list[str]) -> None:
    """Write down what they counted with their names, and only then remove their files."""
    _write_gone(folder, gone, members)
    for member in members:
        for ending in (_NUMBERS, _LOCK):
            (folder / f"{member}{ending}").unlink(missing_ok=True)
    _write_gone(folder, gone, [])


def _write_gone(folder: Path, gone: Snapshot, members: list[str]) -> None:
    document = {"numbers": snapshot_to_json(gone), "members": members}
    _replace(folder / _GONE, json.dumps(document))


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _read(path: Path) -> Snapshot:
    """The numbers in a file; none when it is not there yet or not of our form."""
    try:
        return snapshot_from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_held(path: Path) -> bool:
    """Whether the member that this lock belongs to is alive."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _unusable(folder: Path, why: str) -> ExporterError:
    return ExporterError(
        ReasonCode.EXPORTER_UNAVAILABLE,
        f"the folder {str(folder)!r} cannot carry the metrics of several processes: {why}",
        hint="name a folder on a local disk that every worker may write to, or none"
        " and let each process serve its own port",
        folder=str(folder),
    )
