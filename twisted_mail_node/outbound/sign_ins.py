"""The names and passwords with which we sign in at next hops: those of ``[[route]]`` rules, read from their files.

A file is read when the settings are, and again when it has changed: a new password needs no reload.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import RouteRule
from twisted_mail_node.smtp.sasl import PASSWORD_MAX
from twisted_mail_node.smtp.sasl_client import SignIn
from twisted_mail_node.smtp.scram import prepared
from twisted_mail_node.threads import in_thread

#: Bits of a mode that a file with a password must not have.
FORBIDDEN = 0o007


class _Kept(NamedTuple):
    """What a rule's file held, and by what it is known to be the same."""

    next_hop: str
    path: Path
    state: tuple[int, ...]
    sign_in: SignIn


class SignIns:
    """All of them, by rule.

    :param rules: the routes of the settings.
    :param state_dir: what relative paths are below.
    :raises ValueError: a password cannot be used; a sentence without it.
    """

    def __init__(self, rules: Sequence[RouteRule], state_dir: Path, reactor: Any) -> None:
        self._reactor = reactor
        self._kept = self._read(rules, state_dir)

    def reload(self, other: SignIns) -> None:
        """Let those of other settings be in force: made before, so that wrong ones change nothing."""
        self._kept = other._kept

    async def find(self, rule: str, next_hop: str) -> SignIn:
        """With what we sign in.

        :param rule: ``route[2]``.
        :param next_hop: where. A mail that was routed by earlier settings must not have a rule of that number today
            send its password to another host.
        :raises NoExchanger: there is none now.
        """
        kept = self._kept.get(rule)
        if kept is None or kept.next_hop != next_hop:
            raise _not_now(f"{rule} has no name and password for {next_hop} any more")
        try:
            now = await in_thread(self._reactor, _again, kept)
        except ValueError as error:
            raise _not_now(f"{rule}: {error}") from error
        if now is not kept and self._kept.get(rule) is kept:
            self._kept[rule] = now
        return now.sign_in

    @staticmethod
    def _read(rules: Sequence[RouteRule], state_dir: Path) -> dict[str, _Kept]:
        kept = {}
        for number, rule in enumerate(rules, 1):
            if rule.username is None or rule.password_file is None or rule.next_hop is None:
                continue
            name = f"route[{number}]"
            path = state_dir / rule.password_file
            try:
                password, state = read_password(path)
                prepared(rule.username)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            sign_in = SignIn(rule.username, password, name, rule.tls == "required")
            kept[name] = _Kept(rule.next_hop, path, state, sign_in)
        return kept


def read_password(path: Path) -> tuple[str, tuple[int, ...]]:
    """The one line a file holds, and by what the file is known to be the same. Blocks on the disk.

    :raises ValueError: it cannot be read, others can read it, or it holds no password; a sentence without it.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            octets = file.read(PASSWORD_MAX + 3)
    except OSError as error:
        raise ValueError(f"password_file {path} cannot be read: {error.strerror}") from None
    if status.st_mode & FORBIDDEN:
        raise ValueError(f"others can read password_file {path}: chmod o= {path}")
    line = octets.removesuffix(b"\n").removesuffix(b"\r")
    if not line or len(line) > PASSWORD_MAX:
        raise ValueError(f"password_file {path} does not hold one line with a password")
    try:
        password = line.decode("utf-8")
        prepared(password)
    except ValueError:
        raise ValueError(f"password_file {path} does not hold one line that can be a password") from None
    return password, _state(status)


def _again(kept: _Kept) -> _Kept:
    """The same, or what the file holds now. Blocks on the disk. :raises ValueError: it cannot be used any more."""
    try:
        if _state(os.stat(kept.path)) == kept.state:
            return kept
    except OSError as error:
        raise ValueError(f"password_file {kept.path} cannot be read: {error.strerror}") from None
    password, state = read_password(kept.path)
    return kept._replace(state=state, sign_in=kept.sign_in._replace(password=password))


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def _not_now(words: str) -> NoExchanger:
    return NoExchanger(Reason.SIGN_IN_REFUSED, False, "4.7.0", words)
