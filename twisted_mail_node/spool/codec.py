"""Envelopes, recipients and delivery statuses as JSON text, the form in which the spool's rows hold them.

Lists rather than objects: rows are many and the order of the fields is part of the format (``FORMAT``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any, cast

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: Version of the format, kept in the spool's ``user_version``; a newer spool is not opened by older code.
FORMAT = 1

# markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan: made once, where
# json.dumps would make one for each value
_pieces: Callable[[object, int], tuple[str, ...]] = c_make_encoder(
    None, None, encode_basestring_ascii, None, ":", ",", False, False, False
)


def _encode(value: object) -> str:
    return "".join(_pieces(value, 0))


def encode_envelope(envelope: Envelope) -> str:
    """Everything but the recipients."""
    return _encode(
        [
            envelope.reverse_path,
            envelope.body,
            envelope.smtputf8,
            envelope.ret,
            envelope.envid,
            envelope.client,
            envelope.helo,
            envelope.protocol,
            envelope.session,
            envelope.listener,
        ]
    )


def decode_envelope(text: str, recipients: tuple[Recipient, ...]) -> Envelope:
    """:raises ValueError: the text is damaged."""
    try:
        path, body, smtputf8, ret, envid, client, helo, protocol, session, listener = json.loads(text)
        return Envelope(
            Address(*path) if path is not None else None,
            recipients, body, smtputf8, ret, envid, client, helo, protocol, session, listener,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ValueError(f"the envelope is damaged: {error}") from error


def encode_recipient(recipient: Recipient) -> str:
    """A recipient; the common one without DSN parameters and aliases stays short."""
    address, original, notify, orcpt = recipient
    if not notify and not orcpt and original == address:
        return _encode(address)
    return _encode([*address, *original, notify, orcpt])


def decode_recipient(text: str) -> Recipient:
    """:raises ValueError: the text is damaged."""
    try:
        fields: list[Any] = json.loads(text)
        if len(fields) == 2:
            address = Address(*fields)
            return Recipient(address, address)
        local, domain, original_local, original_domain, notify, orcpt = fields
        return Recipient(Address(local, domain), Address(original_local, original_domain), tuple(notify), orcpt)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the recipient is damaged: {error}") from error


def encode_status(status: DeliveryStatus | None) -> str | None:
    """What the last attempt came to."""
    return None if status is None else _encode(status)


def decode_status(text: str | None) -> DeliveryStatus | None:
    """:raises ValueError: the text is damaged."""
    if text is None:
        return None
    try:
        action, code, reason, words, host, address, from_remote, passed_on = json.loads(text)
        why = cast("Any", Reason)(reason)
        return DeliveryStatus(Action(action), code, why, words, host, address, bool(from_remote), bool(passed_on))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the delivery status is damaged: {error}") from error
