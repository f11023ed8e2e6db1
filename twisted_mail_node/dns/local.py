"""What the machine's own files say about names: the servers of /etc/resolv.conf, the addresses of /etc/hosts.

The files are looked at again every ``_LOOK_AGAIN`` seconds and read again when they have changed. They are small and
local, so they are read where the reactor runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.dns.transport import Server
from twisted_mail_node.dns.wire import Question, name_key

_log = Logger()

T = TypeVar("T")

#: Seconds between two looks at a file.
_LOOK_AGAIN = 5.0
#: Octets. A larger file (lists that block advertisers have 100 000 lines) would hold the reactor up; it is not read.
_MAX_FILE = 262144
#: Servers taken from resolv.conf; the C library takes three.
_MAX_SERVERS = 8
#: The TTL of what a file says, seconds: as long as we do not look.
_FILE_TTL = int(_LOOK_AGAIN)

DNS_PORT = 53


class WatchedFile(Generic[T]):
    """A small file's meaning, kept until the file changes. A missing file means what an empty one means.

    :param read: makes the meaning out of the text; must not raise.
    """

    def __init__(self, path: str, read: Callable[[str], T], clock: IReactorTime) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._looked: float | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._value = read("")

    def value(self) -> T:
        """What the file says now, or said a few seconds ago."""
        now = self._clock.seconds()
        if self._looked is None or now - self._looked >= _LOOK_AGAIN:
            self._looked = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            text = ""
            if found.st_size <= _MAX_FILE:
                with open(self._path, "rb") as file:
                    text = file.read(_MAX_FILE).decode("utf-8", "replace")
            else:
                _log.warn("{path} is larger than {most} octets and was not read", path=self._path, most=_MAX_FILE)
        except FileNotFoundError:
            self._stamp = None
            text = ""
        except OSError as error:
            self._stamp = None
            _log.warn("{path} cannot be read: {error}", path=self._path, error=error)
            return
        self._value = self._read(text)


def read_resolv_conf(text: str) -> tuple[Server, ...]:
    """The ``nameserver`` lines of a resolv.conf(5); without any, this machine's own server."""
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                servers.append(Server(str(ip_address(words[1])), DNS_PORT))
            except ValueError:
                continue
    return tuple(servers[:_MAX_SERVERS]) or (Server("127.0.0.1", DNS_PORT),)


def read_hosts(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """The addresses of a hosts(5) file by name, then by ``A`` and ``AAAA``. What cannot be read is left out."""
    hosts: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            address = ip_address(words[0])
        except ValueError:
            continue
        for name in words[1:]:
            key = name_key(name)
            if key is None:
                continue
            found = hosts.setdefault(key, {"A": (), "AAAA": ()})
            rdtype = "A" if address.version == 4 else "AAAA"
            if str(address) not in found[rdtype]:
                found[rdtype] += (str(address),)
    return hosts


def local_answer(question: Question, hosts: Mapping[str, Mapping[str, tuple[str, ...]]]) -> Answer | None:
    """What is known without the DNS: ``localhost`` (RFC 6761 section 6.3), and addresses in the hosts file."""
    name, rdtype = question
    if name == "localhost" or name.endswith(".localhost"):
        found = {"A": ("127.0.0.1",), "AAAA": ("::1",)}.get(rdtype, ())
        return Answer(found, True, False, name, _FILE_TTL)
    if rdtype in ("A", "AAAA") and (addresses := hosts.get(name)) is not None:
        return Answer(addresses[rdtype], True, False, name, _FILE_TTL)
    return None
