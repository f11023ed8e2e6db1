"""Mail whose senders are checked: signed mails of several domains, the DNS that vouches for them, and the proof that
each server really looked.

A figure of a server that checks counts only when what it delivered says so: the Authentication-Results of mails all
over its Maildir (RFC 8601).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import SOURCES
from benchmarks.names import NameProcess
from benchmarks.servers import NotAvailable, Server
from benchmarks.signing import Domain, Zone, letters

#: Domains that send, and different mails of them.
DOMAINS = 10
LETTERS = 50
#: Octets of all mails of a size: larger ones are fewer.
OCTETS = 64 << 20
#: Mails of a Maildir that are looked at.
LOOKED_AT = 200
#: Whose Authentication-Results count (RFC 8601 section 2.5).
_OURS = re.compile(
    rb"^Authentication-Results:\s*mx\.local\.test\b[^;]*;((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE
)


class Checked:
    """What all servers of a run share: the mails, and the name server.

    :param rcpt: who gets the mails.
    """

    def __init__(self, workdir: Path, rcpt: str) -> None:
        self._place = workdir / "letters"
        self._rcpt = rcpt
        self.domains = [Domain(f"d{number}.example") for number in range(DOMAINS)]
        clients = range(1, SOURCES + 1)
        zone: Zone = {
            "client.test": {"A": [f"127.0.0.{at}" for at in clients], "TXT": ["v=spf1 ip4:127.0.0.0/8 -all"]},
            **{f"{at}.0.0.127.in-addr.arpa": {"PTR": ["client.test"]} for at in clients},
        }
        for domain in self.domains:
            zone.update(domain.zone())
        self.names = NameProcess(zone, workdir)

    def letters(self, size: int) -> Path:
        """The directory of the mails of about this size; written when it is asked for first."""
        directory = self._place / str(size)
        if not directory.exists():
            directory.mkdir(parents=True)
            count = max(1, min(LETTERS, OCTETS // size))
            for number, letter in enumerate(letters(self.domains, size, count, self._rcpt)):
                (directory / f"{letter.sender}.{number}").write_bytes(letter.mail)
        return directory

    def stop(self) -> None:
        """End the name server."""
        self.names.stop()


def methods_of(server: Server) -> tuple[str, ...]:
    """What the server has to have checked."""
    return ("spf", "dkim", "dmarc") if server.name == "node" else ("dkim",)


def prove(server: Server) -> None:
    """Look at mails that were delivered. :raises NotAvailable: one of them was not checked, or did not pass."""
    if server.maildir is None:
        raise NotAvailable("where the mail arrives is not known, so nobody knows whether it was checked")
    new = server.maildir / "new"
    names = sorted(os.listdir(new))
    if not names:
        raise NotAvailable(f"{server.name} delivered nothing")
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        with (new / name).open("rb") as file:
            missing = lacking(file.read(65536), methods_of(server))
        if missing:
            words = " and ".join(f"{one}=pass" for one in missing)
            raise NotAvailable(f"no figure of {server.name}: a mail was delivered without {words}")


def lacking(mail: bytes, methods: Sequence[str]) -> list[str]:
    """The methods that no Authentication-Results of ours says ``pass`` of, or that one says something else of."""
    said = [
        (method.lower().decode(), result.lower())
        for field in _OURS.findall(re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0] + b"\n")
        for method, result in re.findall(rb";\s*([a-z]+)\s*=\s*([a-z]+)", b";" + field, re.IGNORECASE)
    ]
    return [one for one in methods if {result for method, result in said if method == one} != {b"pass"}]
