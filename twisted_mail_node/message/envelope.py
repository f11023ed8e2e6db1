"""The envelope of a mail (RFC 5321 section 2.3.1): reverse-path, recipients and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from twisted_mail_node.message.address import Address

Body = Literal["7BIT", "8BITMIME", "BINARYMIME"]
Ret = Literal["FULL", "HDRS"]
ByMode = Literal["", "N", "R"]


class Recipient(NamedTuple):
    """One recipient of a mail, after aliases were followed.

    :ivar address: where the mail goes.
    :ivar original: the forward-path the client gave; differs from ``address`` after an alias or a subaddress.
    :ivar notify: NOTIFY of RFC 3461 section 4.1: a subset of ``NEVER SUCCESS FAILURE DELAY``; empty when not given.
    :ivar orcpt: ORCPT of RFC 3461 section 4.2, decoded: ``addr-type;address``; ``""`` when not given.
    :ivar expanded: no mail goes there: it stands for an alias that led to several recipients, which stand beside it,
        until the sender was told so (RFC 3461 section 5.2.7.3).
    """

    address: Address
    original: Address
    notify: tuple[str, ...] = ()
    orcpt: str = ""
    expanded: bool = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a mail says outside of its content.

    :ivar reverse_path: ``None`` is the null reverse-path ``<>``.
    :ivar recipients: the recipients after aliases were followed; never empty once a mail is accepted.
    :ivar body: BODY of RFC 6152 and RFC 3030.
    :ivar smtputf8: the client said SMTPUTF8 (RFC 6531).
    :ivar ret: RET of RFC 3461 section 4.3, ``None`` when not given.
    :ivar envid: ENVID of RFC 3461 section 4.4, decoded; ``""`` when not given.
    :ivar client: address of the client as text (``192.0.2.1``, ``2001:db8::1``), ``""`` for what we made ourselves.
    :ivar helo: what the client said in EHLO or HELO.
    :ivar protocol: the with-clause of Received (RFC 3848): ESMTP, SMTP, UTF8SMTP …; ``""`` for our own.
    :ivar session: id of the session that brought it.
    :ivar listener: kind of the listener: ``mx``, ``submission``; ``local`` and
        ``tls-report`` for what we made ourselves.
    :ivar account: the account that signed in, as text; ``""`` when nobody did.
    :ivar tls: how the session that brought it was protected (``TLSv1.3 …``); ``""``: not at all.
    :ivar require_tls: REQUIRETLS (RFC 8689): never to be sent on without verified TLS.
    :ivar release_at: HOLDFOR or HOLDUNTIL (RFC 4865): not to be tried before (seconds since the epoch); 0: at once.
    :ivar deliver_by: BY (RFC 2852): when it shall be delivered (seconds since the epoch); 0: not given.
    :ivar by_mode: what is to happen then: ``R`` returned, ``N`` the sender notified; ``""``: not given.
    :ivar by_trace: the sender wants to be told of hosts that do not know Deliver By (RFC 2852 section 4.1).
    :ivar priority: MT-PRIORITY (RFC 6710), -9 to 9.
    :ivar tls_optional: its header says ``TLS-Required: No`` (RFC 8689 section 3): DANE and MTA-STS hold it up nowhere.
    :ivar quarantine: why it is suspicious: what was checked and came to nothing good; ``""``: it is not.
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...] = ()
    body: Body = "7BIT"
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""
    client: str = ""
    helo: str = ""
    protocol: str = ""
    session: str = ""
    listener: str = ""
    account: str = ""
    tls: str = ""
    require_tls: bool = False
    release_at: float = 0.0
    deliver_by: float = 0.0
    by_mode: ByMode = ""
    by_trace: bool = False
    priority: int = 0
    tls_optional: bool = False
    quarantine: str = ""
