"""The event log: every mail event as one line of JSON, written in batches that never hold the node up.

A line is ``{"time": "2026-01-31T12:00:00.123Z", "event": "mail-accepted", …}``: the time in UTC, the event's class name
in kebab case, then the event's fields under their own names. Lines are ASCII: control characters, direction marks and
everything else outside of it stand as ``\\uXXXX``, so that no value from the network can begin a second line.

At that instant when ``observe`` returns, the line is in memory only. It is written after at most ``FLUSH_AFTER``
seconds, at ``FLUSH_EVENTS`` events, and when the log is closed. A crash loses the lines not yet written, never a mail.
"""

from __future__ import annotations

import os
import re
import select
import stat
import sys
import time
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.events import Event
from twisted_mail_node.interfaces import IMailObserver
from twisted_mail_node.reasons import Reason

_log = Logger()

#: Seconds a line may wait in memory: short enough for ``tail -f``, long enough for one write per many mails.
FLUSH_AFTER = 0.1
#: Events that are written at once without waiting: some 64 KiB, and a reactor turn of two milliseconds.
FLUSH_EVENTS = 250
#: Octets kept while the log cannot be written (disk full, nobody reads the pipe); what comes after is counted and lost.
WAITING_MAX = 4 * 1024 * 1024
#: Seconds until the next try after the log could not be written.
RETRY_AFTER = 5.0
#: A pipe that poll(2) calls writable takes this many octets without blocking (PIPE_BUF of Linux).
PIPE_PIECE = 4096
#: The owner writes, the group may read, as log shippers expect.
MODE = 0o640

_CAPITAL = re.compile(r"(?<=.)([A-Z])")
# markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
_encode: Callable[[object, int], tuple[str, ...]] = c_make_encoder(
    None, str, encode_basestring_ascii, None, ":", ",", False, False, False
)


def event_name(event: type) -> str:
    """``MailAccepted`` is ``mail-accepted``."""
    return _CAPITAL.sub(r"-\1", event.__name__).lower()


def _template(event: type[Any]) -> str:
    """The line of one class of events, with a place for the time and for each field."""
    fields = "".join(f',"{name}":%s' for name in event._fields)
    return '{"time":"%s","event":"' + event_name(event) + '"' + fields + "}\n"


def _any(value: object) -> str:
    return "".join(_encode(value, 0))


# Microseconds are enough for any float we write.
_BY_TYPE: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    Reason: encode_basestring_ascii,
    int: int.__repr__,
    float: lambda value: repr(round(value, 6)),
}


@implementer(IMailObserver)
class EventLog:
    """Writes events.

    :param write: takes octets and gives how many it took, like ``os.write``; ``0`` is "not now". It may raise
        ``OSError``: that is logged once, the node goes on, and the lines are tried again later.
    :param clock: for the time stamps (its ``seconds()`` are since the epoch) and for the delay before a write.
    :param reopen: opens the log's file anew, after somebody renamed it.
    :param close: closes what ``write`` writes to.
    """

    def __init__(
        self,
        write: Callable[[memoryview], int],
        clock: IReactorTime,
        *,
        reopen: Callable[[], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._write = write
        self._clock = clock
        self._reopen = reopen
        self._close = close
        self._events: list[tuple[float, Event]] = []
        self._unwritten = b""
        self._timer: IDelayedCall | None = None
        self._second = -1
        self._stamp = ""
        self._templates: dict[type, str] = {}
        self._failing = False
        self._closed = False
        #: Lines lost since the log could last be written.
        self.lost = 0

    def observe(self, event: Event) -> None:
        """Put one event into the log. Never waits and never raises for want of room.

        Lines are made when they are written, many in a row: that takes a third of the time it takes one by one.
        """
        if self._closed:
            self.lost += 1
            return
        self._events.append((self._clock.seconds(), event))
        if len(self._events) >= FLUSH_EVENTS:
            if self._failing:
                self._gather()
            else:
                self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._due)

    def _gather(self) -> None:
        """Make lines of what was observed, as far as there is room for them."""
        lines: list[str] = []
        room = WAITING_MAX - len(self._unwritten)
        for now, event in self._events:
            kind = type(event)
            template = self._templates.get(kind)
            if template is None:
                template = self._templates[kind] = _template(kind)
            second = int(now)
            if second != self._second:
                self._second = second
                self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            stamp = f"{self._stamp}{int((now - second) * 1000):03d}Z"
            line = template % (stamp, *[_BY_TYPE.get(type(value), _any)(value) for value in event])
            room -= len(line)
            if room >= 0:
                lines.append(line)
            else:
                self.lost += 1
        self._events.clear()
        self._unwritten += "".join(lines).encode("ascii")

    def flush(self) -> None:
        """Write what is gathered, as far as it can be written now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events:
            self._gather()
        broken = self._write_all()
        if broken is not None and not self._failing:
            _log.error("the event log cannot be written: {error}; the node goes on without it", error=broken)
        self._failing = broken is not None
        if self._unwritten:
            if not self._closed:
                self._timer = self._clock.callLater(RETRY_AFTER if broken else FLUSH_AFTER, self._due)
        elif self.lost:
            _log.warn("the event log is written again; {lost} lines are missing", lost=self.lost)
            self.lost = 0

    def _write_all(self) -> OSError | None:
        view = memoryview(self._unwritten)
        done = 0
        try:
            while done < len(view) and (taken := self._write(view[done:])):
                done += taken
        except BlockingIOError:
            return None
        except OSError as error:
            return error
        finally:
            self._unwritten = self._unwritten[done:]
        return None

    def reopen(self) -> None:
        """Write what is gathered to the old file and go on with a new one (SIGHUP, after a rotation).

        When the new one cannot be opened the old one stays in use, and the reason is logged.
        """
        self.flush()
        if self._reopen is None:
            return
        try:
            self._reopen()
        except OSError as error:
            _log.error("the event log cannot be opened anew: {error}; the old file stays in use", error=error)
        else:
            self.flush()

    def close(self) -> None:
        """Write everything and close. What comes later is lost."""
        if self._closed:
            return
        self._closed = True
        self.flush()
        if self._unwritten:
            _log.error("{size} octets of the event log could not be written", size=len(self._unwritten))
        if self._close is not None:
            self._close()

    def _due(self) -> None:
        self._timer = None
        self.flush()


class LogFile:
    """The file an event log is appended to.

    :param path: the file; made with mode ``0640`` when missing, its directory with ``0750``.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = self._open()

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def write(self, octets: memoryview) -> int:
        """Append; gives how many octets were taken."""
        return os.write(self._fd, octets)

    def reopen(self) -> None:
        """Open the path anew; the old file is closed when that worked."""
        old, self._fd = self._fd, self._open()
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Stream:
    """An open descriptor, such as standard output. A pipe whose reader sleeps delays the log, not the node."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll: select.poll | None = None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def write(self, octets: memoryview) -> int:
        """Write what fits now; gives how many octets that was."""
        if self._poll is None:
            return os.write(self._fd, octets)
        if not self._poll.poll(0):
            return 0
        return os.write(self._fd, octets[:PIPE_PIECE])


def open_event_log(path: str, state_dir: Path, clock: IReactorTime) -> EventLog:
    """The event log of the settings.

    :param path: ``log.path`` of the settings: below ``state_dir`` unless absolute; ``-`` is standard output.
    :raises OSError: the file cannot be opened.
    """
    if path == "-":
        sys.stdout.flush()
        return EventLog(Stream(sys.stdout.fileno()).write, clock)
    file = LogFile(state_dir / path)
    return EventLog(file.write, clock, reopen=file.reopen, close=file.close)
