"""Publishes the records of keys by dynamic update (RFC 2136), signed with TSIG (RFC 8945).

An update goes by TCP to the one server that the settings name, which passes it on to the others; whether they have it
is another question (``signing.shown``).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.update
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.dns.transport import Server, Transport, TransportError
from twisted_mail_node.settings_signing import DkimSettings
from twisted_mail_node.signing.record import TTL, owner, strings
from twisted_mail_node.waiting import DeadlineError, within

#: Seconds an update may take: the server writes it to its disk, and signs the zone anew.
UPDATE_TIME = 30.0
#: Octets of the file with the key.
FILE_MAX = 65_536
#: What signs when the file does not say it (RFC 8945 section 6: the one that everybody has).
ALGORITHM = "hmac-sha256"
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")
FORBIDDEN = 0o077
#: What mostly is the matter where a server answers so (RFC 2136 section 2.2).
_HINTS = {
    "REFUSED": "update-policy does not let this key change TXT records below _domainkey there, or the server only has "
    "a copy of the zone",
    "NOTAUTH": "it is no name server of that zone",
    "NOTIMP": "it takes no updates",
    "SERVFAIL": "its log says why; mostly it may not write beside its zone file",
}

_NAME = re.compile(r'\bkey\s+"?([^\s"{;]+)"?\s*\{')
_ALGORITHM = re.compile(r'\balgorithm\s+"?([A-Za-z0-9-]+)"?\s*;')
_SECRET = re.compile(r'\bsecret\s+"?([A-Za-z0-9+/=]+)"?\s*;')


class NotPublishedError(Exception):
    """An update was not made; the sentence says why."""


class UpdateKey(NamedTuple):
    """What signs updates. Its ``repr`` does not show the secret (attack T40)."""

    name: str
    algorithm: str
    secret: bytes

    def __repr__(self) -> str:
        return f"UpdateKey({self.name!r}, {self.algorithm!r})"


def read_update_key(path: Path, name: str | None) -> UpdateKey:
    """The key in a file of ``tsig-keygen``, or of the secret alone, in base64.

    :param name: what it is called; ``None``: as the file says.
    :raises ValueError: others may read the file, or no key is in it.
    """
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(FILE_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if mode & FORBIDDEN:
        raise ValueError(f"others may read {path} (mode {mode:04o}); chmod 600 it, for it holds the key of updates")
    found, algorithm, secret = _NAME.search(text), _ALGORITHM.search(text), _SECRET.search(text)
    name = name or (found[1] if found else None)
    if name is None:
        raise ValueError(f"{path} does not say what its key is called; say it: update_key_name in [dkim]")
    chosen = algorithm[1].lower() if algorithm else ALGORITHM
    if chosen not in ALGORITHMS:
        raise ValueError(f"{path} has a key for {chosen}; it must be for one of {', '.join(ALGORITHMS)}")
    try:
        octets = base64.b64decode(secret[1] if secret else text.strip(), validate=True)
        dns.name.from_text(name)
    except (binascii.Error, ValueError, dns.exception.DNSException):
        octets = b""
    if not octets:
        raise ValueError(f"{path} holds no key: the output of tsig-keygen, or a secret in base64")
    return UpdateKey(name, chosen, octets)


class Updates:
    """Sends updates to a server.

    :param transport: carries octets.
    :param clock: for the deadline; the time that TSIG has in it is that of the machine.
    """

    def __init__(self, server: Server, key: UpdateKey, transport: Transport, clock: IReactorTime) -> None:
        self.server = server
        self._key = dns.tsig.Key(dns.name.from_text(key.name), key.secret, key.algorithm)
        self._transport = transport
        self._clock = clock

    async def publish(self, zone: str, selector: str, domain: str, record: str) -> None:
        """Put the record of a key into its zone, in the place of every TXT record of that name.

        :raises NotPublishedError: it is not surely there.
        """
        update = self._update(zone)
        text = " ".join(f'"{one}"' for one in strings(record))
        update.replace(_absolute(owner(selector, domain)), TTL, "TXT", text)
        await self._send(update)

    async def withdraw(self, zone: str, selector: str, domain: str, record: str) -> None:
        """Take the record of a key out; another one of that name stays.

        :raises NotPublishedError: it may still be there.
        """
        update = self._update(zone)
        text = " ".join(f'"{one}"' for one in strings(record))
        update.delete(_absolute(owner(selector, domain)), "TXT", text)
        await self._send(update)

    def _unsigned(self, error: dns.tsig.PeerError, said: str) -> str:
        """Why the server does not take our signature, after its name."""
        key = self._key.name.to_text(omit_final_dot=True)
        if isinstance(error, dns.tsig.PeerBadKey):
            return (
                f"takes no updates with a key called {key}, or none at all ({said}, BADKEY): is update_server the "
                "primary name server, and the key in update_key_file one that it knows?"
            )
        if isinstance(error, dns.tsig.PeerBadSignature):
            return f"has another secret for the key {key} ({said}, BADSIG): update_key_file is not the server's key"
        if isinstance(error, dns.tsig.PeerBadTime):
            return f"has another time than this machine ({said}, BADTIME): set both clocks"
        return f"does not take our signature ({said}): {error}"

    def _update(self, zone: str) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(_absolute(zone), keyring=self._key)

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        octets = update.to_wire()

        def accept(reply: bytes) -> bool | None:
            if reply[:2] != octets[:2]:
                return None
            said = dns.rcode.to_text(dns.rcode.Rcode(int.from_bytes(reply[3:4], "big") & 15))
            try:
                message = dns.message.from_wire(reply, keyring=self._key, request_mac=update.mac)
            except dns.tsig.PeerError as error:  # what the server says of our signature (RFC 8945 section 5.2)
                raise TransportError(self._unsigned(error, said)) from None
            except (dns.exception.DNSException, ValueError) as error:
                why = str(error) or type(error).__name__
                raise TransportError(f"answered the update with {said}, and not as it must: {why}") from None
            if message.rcode() != dns.rcode.NOERROR:
                hint = _HINTS.get(said, "")
                raise TransportError(f"refused the update: {said}{f' ({hint})' if hint else ''}")
            if not message.had_tsig:
                raise TransportError("answered the update without a signature (TSIG)")
            return True

        sending = self._transport.tcp(self.server, octets, accept, UPDATE_TIME)
        try:
            await within(self._clock, UPDATE_TIME, sending)
        except DeadlineError:
            raise NotPublishedError(f"{self.server} did not answer the update within {UPDATE_TIME:g} s") from None
        except TransportError as error:
            raise NotPublishedError(f"{self.server} {error}") from None


def update_key_of(settings: DkimSettings, state_dir: Path) -> UpdateKey | None:
    """The key that these settings name.

    :raises ValueError: see ``read_update_key``.
    """
    if settings.update_server is None or settings.update_key_file is None:
        return None
    return read_update_key(state_dir / settings.update_key_file, settings.update_key_name)


def updates_of(settings: DkimSettings, state_dir: Path, transport: Transport, clock: IReactorTime) -> Updates | None:
    """Who publishes by these settings; ``None`` where operators do.

    :raises ValueError: see ``read_update_key``.
    """
    key = update_key_of(settings, state_dir)
    if key is None or settings.update_server is None:
        return None
    return Updates(Server(*settings.update_server), key, transport, clock)


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(f"{name}.")
