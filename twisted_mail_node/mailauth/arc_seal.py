"""Adds an ARC Set to a mail (RFC 8617 section 5.1): what we found when it came, and our seal on the chain so far.

All changes come first, our DKIM-Signature among them (section 5.1, step 1): ``seal`` is the last thing that is done to
a header section. It harms no chain, and no signature that is there (section 5.1.5).
"""

from __future__ import annotations

from base64 import b64encode

from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.arc_sets import KINDS, Chain, collect
from twisted_mail_node.mailauth.canonical import HeaderFields, signed_octets
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_sign import (
    ALWAYS,
    AS_THEY_ARE,
    IF_THERE,
    folded_base64,
    folded_names,
    folded_tags,
)
from twisted_mail_node.mailauth.dkim_verify import LINES_MAX
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.signature import NAMES_MAX
from twisted_mail_node.message.authresults import AuthenticationResults, field
from twisted_mail_node.message.header import Field

_ALWAYS, _IF_THERE = frozenset(ALWAYS), frozenset(IF_THERE)
#: What a message signature covers: what a DKIM-Signature does, and the DKIM-Signatures that are there. Nothing of ARC,
#: and no Authentication-Results (RFC 8617 section 4.1.2).
_NAMES = (*ALWAYS, *IF_THERE, *AS_THEY_ARE, b"dkim-signature")
_FOLD = "\r\n\t"


def seal(
    header: bytes, *, arc: Arc, results: AuthenticationResults, body_hash: bytes, key: SigningKey, now: float
) -> bytes:
    """The three fields of our set, each with its CRLF, to stand before ``header``.

    ``b""`` where none is to be added: the newest seal says cv=fail (RFC 8617 section 5.1, step 2), all fifty instances
    are used (section 4.2.1), or the header has so many lines that nobody would check the signature.

    It signs twice: where ``key.slow`` it belongs in a thread.

    A chain that failed is sealed once more, with cv=fail, and that seal covers our set alone (section 5.1.2). It ends
    the chain for good, where the DNS had no answer, too: see ``Arc.temporary``.

    :param header: the header section as it leaves.
    :param arc: what ``ArcValidator`` found when the mail came.
    :param results: all that we found, of SPF, DKIM, DMARC and ARC, in one (section 4.1.1).
    :param body_hash: of the body as it leaves: the digest of ``BodyHashes.want("relaxed")``.
    :param key: RSA, if there is one: some who validate know nothing else.
    :param now: seconds since the epoch (t=).
    :raises ValueError: the chain in ``header`` is not the one that ``arc`` tells of; or ``results`` cannot be written.
    """
    if header.count(b"\r\n") > LINES_MAX:
        return b""
    fields = HeaderFields(header)
    chain = collect(fields)
    whole = _whole(chain, arc)
    names = _names(fields)
    if chain.ended or len(names) > NAMES_MAX:
        return b""
    instance = chain.highest + 1
    status = str(arc.result) if whole else str(Result.FAIL)
    told = _field(field(results, KINDS[0], instance=instance)[:-2])
    opening = [f"i={instance};", f"a={key.algorithm};"]
    ending = [f"d={key.domain};", f"s={key.selector};", f"t={int(now)};"]
    tags = folded_tags([*opening, "c=relaxed/relaxed;", *ending], len(KINDS[1]) + 2)
    hashed = b64encode(body_hash).decode("ascii")
    unsigned = f"{KINDS[1]}: {tags}{_FOLD}{folded_names('h=', names)};{_FOLD}bh={hashed};{_FOLD}b="
    message = _signed(unsigned, fields.choose(names), key)
    tags = folded_tags([*opening, f"cv={status};", *ending], len(KINDS[2]) + 2)
    earlier = [part.field for each in chain.sets for part in each] if whole else []
    sealed = _signed(f"{KINDS[2]}: {tags}{_FOLD}b=", [*earlier, told, message], key)
    return b"\r\n".join((sealed.raw, message.raw, told.raw, b""))


def _whole(chain: Chain, arc: Arc) -> bool:
    """Whether there is a chain that goes on, or none yet.

    :raises ValueError: we would vouch for what nobody looked at.
    """
    whole = arc.result in (Result.NONE, Result.PASS)
    if chain.highest != arc.instance or (whole and chain.problem):
        raise ValueError("the ARC fields of this header are not those that were validated")
    return whole


def _names(fields: HeaderFields) -> list[bytes]:
    """h=: as in a DKIM-Signature of ours (RFC 6376 section 5.4.1)."""
    names: list[bytes] = []
    for name in _NAMES:
        count = len(fields.places(name))
        names += [name] * (count + (name in _ALWAYS or (count > 0 and name in _IF_THERE)))
    return names


def _signed(unsigned: str, chosen: list[Field], key: SigningKey) -> Field:
    """A field whose last tag is an empty b=, signed."""
    octets = unsigned.encode("ascii")
    signature = key.sign(signed_octets(chosen, _field(octets), "relaxed"))
    return _field(octets + folded_base64(signature, 2).encode("ascii"))


def _field(raw: bytes) -> Field:
    name, _, value = raw.partition(b":")
    return Field(name, value, raw)
