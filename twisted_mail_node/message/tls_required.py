"""The TLS-Required header field (RFC 8689 section 3): the sender would rather have the mail arrive than protected."""

from __future__ import annotations

from twisted_mail_node.message.header import count, first

_NAME = b"TLS-Required"


def is_tls_optional(header: bytes) -> bool:
    """The header section says ``TLS-Required: No``. Said twice, or anything else, it says nothing."""
    value = first(header, _NAME)
    return value is not None and value.strip().lower() == b"no" and count(header, _NAME) == 1
