"""The SASL mechanisms we know, by name: one table.

EXTERNAL is so small that it stands here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from twisted_mail_node.smtp.sasl import CertificateLogin, Challenge, Exchange, words_of
from twisted_mail_node.smtp.sasl_passwords import login, plain
from twisted_mail_node.smtp.sasl_scram import scram
from twisted_mail_node.smtp.sasl_tokens import oauthbearer, xoauth2

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import ITlsSession

#: Begins an exchange: the initial response, the TLS session, and what is offered in it.
Mechanism = Callable[["bytes | None", "ITlsSession | None", Collection[str]], Exchange]


def _external(initial: bytes | None, tls: ITlsSession | None, offered: Collection[str]) -> Exchange:
    """RFC 4422 appendix A: the response is empty, or one of the names the certificate is for."""
    octets: bytes = (yield Challenge()) if initial is None else initial
    return (yield CertificateLogin(words_of(octets, "name") if octets else "", tls))


def _scram(hash_name: str, *, plus: bool) -> Mechanism:
    with_binding = f"SCRAM-{hash_name}-PLUS"

    def begin(initial: bytes | None, tls: ITlsSession | None, offered: Collection[str]) -> Exchange:
        return scram(initial, tls, hash_name, plus=plus, plus_offered=with_binding in offered)

    return begin


MECHANISMS: dict[str, Mechanism] = {
    "PLAIN": lambda initial, tls, offered: plain(initial),
    "LOGIN": lambda initial, tls, offered: login(initial),
    "SCRAM-SHA-256-PLUS": _scram("SHA-256", plus=True),
    "SCRAM-SHA-256": _scram("SHA-256", plus=False),
    "SCRAM-SHA-1-PLUS": _scram("SHA-1", plus=True),
    "SCRAM-SHA-1": _scram("SHA-1", plus=False),
    "EXTERNAL": _external,
    "OAUTHBEARER": lambda initial, tls, offered: oauthbearer(initial),
    "XOAUTH2": lambda initial, tls, offered: xoauth2(initial),
}


def exchange(mechanism: str, initial: bytes | None, tls: ITlsSession | None, offered: Collection[str] = ()) -> Exchange:
    """Begin a mechanism.

    :param mechanism: in capitals.
    :param initial: the initial response, ``None`` without one.
    :param offered: the mechanisms that this session is offered.
    :raises KeyError: there is none of this name.
    """
    return MECHANISMS[mechanism](initial, tls, offered)
