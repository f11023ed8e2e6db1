"""Leads SASL exchanges in tests: responses in, and what the mechanism wanted out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from twisted_mail_node.smtp.sasl import Challenge, Exchange, Login, MalformedError, ScramKeys


class Outcome(NamedTuple):
    """How an exchange went.

    :ivar submitter: what it returned.
    :ivar challenges: what the client was asked.
    :ivar logins: what was asked of the directory.
    """

    submitter: Any
    challenges: list[bytes]
    logins: Sequence[Login]


class UnansweredError(Exception):
    """The mechanism wanted one response more than the client had."""


def lead(
    exchange: Exchange,
    responses: Iterable[bytes] = (),
    *,
    keys: tuple[bytes, int] = (b"salt", 1),
    check: Callable[[Any], Any] = lambda login: "somebody",
) -> Outcome:
    """Lead an exchange to its end.

    :param check: gives the submitter for a login.
    :raises MalformedError: as the mechanism does.
    """
    left = list(responses)
    challenges: list[bytes] = []
    logins: list[Login] = []
    answer: Any = None
    while True:
        try:
            wanted = exchange.send(answer)
        except StopIteration as stop:
            return Outcome(stop.value, challenges, logins)
        if isinstance(wanted, Challenge):
            challenges.append(wanted.octets)
            if not left:
                raise UnansweredError
            answer = left.pop(0)
        elif isinstance(wanted, ScramKeys):
            answer = keys
        else:
            logins.append(wanted)
            answer = check(wanted)


def malformed(exchange: Exchange, responses: Iterable[bytes] = ()) -> str:
    """The sentence an exchange ends with; nobody may have been logged in."""
    logins: list[Any] = []
    try:
        lead(exchange, responses, check=logins.append)
    except MalformedError as error:
        assert not logins, logins
        return str(error)
    raise AssertionError("it was taken")
