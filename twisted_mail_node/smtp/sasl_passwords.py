"""PLAIN (RFC 4616) and LOGIN: the client says its password, so they are offered under TLS only."""

from __future__ import annotations

from twisted_mail_node.smtp.sasl import (
    PASSWORD_MAX,
    Challenge,
    Exchange,
    MalformedError,
    PasswordLogin,
    check_identity,
    words_of,
)

#: What LOGIN asks. It is no standard; Outlook and others look for these very words.
USERNAME = Challenge(b"Username:")
PASSWORD = Challenge(b"Password:")


def plain(initial: bytes | None) -> Exchange:
    """RFC 4616 section 2: ``[authzid] NUL authcid NUL passwd``."""
    octets: bytes = (yield Challenge()) if initial is None else initial
    parts = octets.split(b"\0")
    if len(parts) != 3:
        raise MalformedError("PLAIN takes an identity (or nothing), a name and a password, with NUL between them")
    identity, name, password = parts
    login = PasswordLogin(words_of(name, "name"), words_of(password, "password", PASSWORD_MAX))
    check_identity(identity, login.name)
    return (yield login)


def login(initial: bytes | None) -> Exchange:
    """Two questions. Many clients answer the first one already with AUTH."""
    name: bytes = (yield USERNAME) if initial is None else initial
    named = words_of(name, "name")
    password: bytes = yield PASSWORD
    return (yield PasswordLogin(named, words_of(password, "password", PASSWORD_MAX)))
