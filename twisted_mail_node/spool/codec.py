"""Envelopes, recipients and delivery statuses as JSON text, the form in which the spool's rows hold them.

Lists rather than objects: rows are many and the order of the fields is part of the format (``FORMAT``). What format 2
added stands at the end of the lists, and only where it says something: the texts of format 1 are read as they are.
So do ``tls_optional`` and ``expanded`` of format 3, which has more tables, too, and ``quarantine`` of format 4.
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
FORMAT = 4

#: Fields an envelope may have: the ten of format 1; account and TLS too; or all, with ``tls_optional`` where it is set,
#: and with that and ``quarantine`` where that says something.
_ENVELOPE_FIELDS = frozenset({10, 12, 18, 19, 20})
#: Fields of a status in format 1; two more are the other length it may have.
_STATUS_FIELDS = 8

# markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan: made once, where
# json.dumps would make one for each value
_pieces: Callable[[object, int], tuple[str, ...]] = c_make_encoder(
    None, None, encode_basestring_ascii, None, ":", ",", False, False, False
)


# The same for reading: json.loads would look at the type of each text first.
_decode: Callable[[str], Any] = json.JSONDecoder().decode


def _encode(value: object) -> str:
    return "".join(_pieces(value, 0))


def encode_envelope(envelope: Envelope) -> str:
    """Everything but the recipients. What ordinary mail does not have is not written."""
    fields: list[object] = [
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
    if (
        envelope.require_tls
        or envelope.priority
        or envelope.release_at
        or envelope.by_mode
        or envelope.deliver_by
        or envelope.by_trace
        or envelope.tls_optional
        or envelope.quarantine
    ):
        fields += (
            envelope.account,
            envelope.tls,
            envelope.require_tls,
            envelope.release_at,
            envelope.deliver_by,
            envelope.by_mode,
            envelope.by_trace,
            envelope.priority,
        )
        if envelope.quarantine:
            fields += (envelope.tls_optional, envelope.quarantine)
        elif envelope.tls_optional:
            fields.append(True)
    elif envelope.tls or envelope.account:
        fields += (envelope.account, envelope.tls)
    return "".join(_pieces(fields, 0))


def decode_envelope(text: str, recipients: tuple[Recipient, ...]) -> Envelope:
    """:raises ValueError: the text is damaged."""
    try:
        fields: list[Any] = _decode(text)
        if len(fields) not in _ENVELOPE_FIELDS:
            raise ValueError(f"it has {len(fields)} fields")
        if len(fields) == 19 and fields[18] is not True:
            raise ValueError("its last field is not true")
        if len(fields) == 20 and not (isinstance(fields[18], bool) and isinstance(fields[19], str) and fields[19]):
            raise ValueError("its last fields are no truth and no text")
        path = fields[0]
        fields[0] = None if path is None else Address(*path)
        return Envelope(fields[0], recipients, *fields[1:])
    except (TypeError, ValueError) as error:
        raise ValueError(f"the envelope is damaged: {error}") from error


def encode_recipient(recipient: Recipient) -> str:
    """A recipient; the common one without DSN parameters and aliases stays short."""
    address, original, notify, orcpt, expanded = recipient
    if expanded:
        return _encode([*address, *original, notify, orcpt, True])
    if not notify and not orcpt and original == address:
        return _encode(address)
    return _encode([*address, *original, notify, orcpt])


def decode_recipient(text: str) -> Recipient:
    """:raises ValueError: the text is damaged."""
    try:
        fields: list[Any] = _decode(text)
        if len(fields) == 2:
            address = Address(*fields)
            return Recipient(address, address)
        local, domain, original_local, original_domain, notify, orcpt, *more = fields
        if len(more) > 1:
            raise ValueError(f"it has {len(fields)} fields")
        original = Address(original_local, original_domain)
        return Recipient(Address(local, domain), original, tuple(notify), orcpt, bool(more and more[0]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the recipient is damaged: {error}") from error


def encode_status(status: DeliveryStatus | None) -> str | None:
    """What the last attempt came to."""
    if status is None:
        return None
    fields = status[: _STATUS_FIELDS + 2] if status.tls or status.by_passed_on else status[:_STATUS_FIELDS]
    return "".join(_pieces(fields, 0))


def decode_status(text: str | None) -> DeliveryStatus | None:
    """:raises ValueError: the text is damaged."""
    if text is None:
        return None
    try:
        action, code, reason, words, host, address, from_remote, passed_on, *more = _decode(text)
        if len(more) not in (0, 2):
            raise ValueError(f"it has {_STATUS_FIELDS + len(more)} fields")
        action, why = Action(action), cast("Any", Reason)(reason)
        return DeliveryStatus(action, code, why, words, host, address, bool(from_remote), bool(passed_on), *more)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the delivery status is damaged: {error}") from error
