"""An outcome of checks, for tests: a mail of example.org that passed everything, and what it may be otherwise."""

from __future__ import annotations

from typing import Any

from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.author import Author
from twisted_mail_node.mailauth.dkim_verify import Signed
from twisted_mail_node.mailauth.dmarc import Dmarc
from twisted_mail_node.mailauth.iprev import Iprev
from twisted_mail_node.mailauth.outcome import Outcome
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf

RECORD = "v=DMARC1; p=reject"
SIGNED = Signed(Result.PASS, "example.org", "s1", "@example.org", "rsa-sha256", "AbCdEfGh")
GOOD = Outcome(
    client="192.0.2.1",
    helo="mx.example.org",
    reverse_path="ann@example.org",
    iprev=Iprev(Result.PASS, "mx.example.org"),
    helo_spf=Spf(Result.NONE, "mx.example.org", "helo", "mx.example.org", problem="there is no SPF record"),
    spf=Spf(Result.PASS, "example.org", "mfrom", "ann@example.org", "ip4:192.0.2.1"),
    dkim=(SIGNED,),
    author=Author("example.org", ""),
    dmarc=Dmarc(
        Result.PASS, "example.org", "example.org", "example.org", "reject", "none", RECORD, spf_aligned=True,
        dkim_aligned=True,
    ),
    arc=Arc(Result.NONE),
)  # fmt: skip
#: The same from a stranger: no signature, SPF fails, and the domain asks to reject it.
FORGED = GOOD._replace(
    spf=GOOD.spf._replace(result=Result.FAIL, mechanism="-all"),
    dkim=(),
    dmarc=GOOD.dmarc._replace(result=Result.FAIL, asked="reject", spf_aligned=False, dkim_aligned=False),
)


def forged(**dmarc: Any) -> Outcome:
    """A forged mail whose DMARC result has other fields."""
    return FORGED._replace(dmarc=FORGED.dmarc._replace(**dmarc))
