"""What OpenSSL knows and pyOpenSSL has no name for: the one place that reaches below it.

Twisted does the same for its own contexts. Where a later pyOpenSSL hides these functions, OpenSSL's defaults hold,
and a resumed session is shown like any other; nothing that decides about trust stands here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from OpenSSL import SSL

#: Key exchange, the best first; names that this OpenSSL does not know are left out (the question mark). The first
#: also stands against those who keep what they hear until they have a quantum computer.
GROUPS = b"?X25519MLKEM768:X25519:P-256:P-384"

_AUTO_RETRY = 4  # SSL_MODE_AUTO_RETRY
_lib: Any = getattr(SSL, "_lib", None)


def set_groups(context: SSL.Context, groups: bytes = GROUPS) -> bool:
    """Say which groups are offered and taken for the key exchange; ``False`` when OpenSSL's own stay."""
    try:
        return bool(_lib.SSL_CTX_set1_curves_list(context._context, groups) == 1)
    except AttributeError:
        return False


def read_one_record(connection: SSL.Connection) -> None:
    """Let each read from a socket end with the record it took, also with one that holds no data.

    Otherwise OpenSSL goes on to the next, for as long as more come: who sends nothing but KeyUpdate (RFC 8446
    section 4.6.3), for which nobody must have signed in, would hold us in one read for good.
    """
    with suppress(AttributeError):
        _lib.SSL_clear_mode(connection._ssl, _AUTO_RETRY)


def forget_errors() -> None:
    """Empty OpenSSL's list of errors, which all connections share: what one left there would end another."""
    with suppress(AttributeError):
        _lib.ERR_clear_error()


def words_of(error: BaseException) -> str:
    """What OpenSSL says went wrong in TLS, for a person; ``''`` when the connection broke below it."""
    found = error.args[0] if isinstance(error, SSL.Error) and error.args else ()
    if not isinstance(found, (list, tuple)):
        return ""
    return "; ".join(dict.fromkeys(reason for _, _, reason in found if reason))


def was_resumed(connection: SSL.Connection) -> bool:
    """The handshake took an earlier session up again."""
    try:
        return bool(_lib.SSL_session_reused(connection._ssl))
    except AttributeError:
        return False
