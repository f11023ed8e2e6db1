"""Signs mail (RFC 6376 section 5): DKIM-Signature fields, one for each key, relaxed/relaxed, for the whole body.

h= names what is there, and once more what somebody could add or put above it (section 5.4): a second From or Subject
breaks the signature. There is never an l=.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache

from twisted_mail_node.mailauth.canonical import HeaderFields
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.signature import NAMES_MAX
from twisted_mail_node.message.header import FOLD_AT, Field

__all__ = ["ALWAYS", "AS_THEY_ARE", "IF_THERE", "SigningKey", "folded_base64", "folded_names", "folded_tags", "sign"]

#: Named once more than they are there, also when they are not: what people and their programs go by. RFC 6376 section
#: 5.4.1 has most of them; what says how the body is to be read is there because a new one shows another text.
ALWAYS = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
#: Named once more than they are there, when they are. Lists and forwarders add them where they are not, and change
#: nothing else: such mail keeps its signature. (RFC 8058 wants List-Unsubscribe and its -Post signed.)
IF_THERE = (
    b"sender",
    b"content-disposition",
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    b"autocrypt",
)
#: Named as often as they are there: whoever sends a mail on puts a new block above (RFC 5322 section 3.6.6).
AS_THEY_ARE = (b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id")

_NAME = b"DKIM-Signature"
_FOLD = "\r\n\t"


def sign(
    header: bytes, body_hash: bytes, keys: Sequence[SigningKey], *, now: float, expires: float | None = None
) -> bytes:
    """DKIM-Signature fields with their CRLFs, one for each key, to stand before ``header``.

    :param header: the header section as it will be sent.
    :param body_hash: the digest of ``BodyHashes.want("relaxed")``.
    :param now: seconds since the epoch (t=).
    :param expires: likewise, when they expire (x=); ``None`` for never.
    :raises ValueError: the mail has no From field (RFC 6376 section 5.4 has it signed), or so many fields that are to
        be signed that nobody would check them.
    """
    fields = HeaderFields(header)
    counts = tuple(len(fields.places(name)) for name in (*ALWAYS, *IF_THERE, *AS_THEY_ARE))
    if not counts[0]:
        raise ValueError("a mail without a From field cannot be signed")
    names, written = _names(counts)
    times = f"t={int(now)};" if expires is None else f"t={int(now)}; x={int(expires)};"
    hashed = b64encode(body_hash).decode("ascii")
    signatures = []
    for key in keys:
        opening = _opening(key.algorithm, key.domain, key.selector, times)
        value = f" {opening}{_FOLD}{written};{_FOLD}bh={hashed};{_FOLD}b=".encode("ascii")
        raw = _NAME + b":" + value
        signature = key.sign(fields.signed_octets(names, Field(_NAME, value, raw), "relaxed"))
        signatures.append(raw + folded_base64(signature, 2).encode("ascii") + b"\r\n")
    return b"".join(signatures)


@lru_cache(maxsize=256)
def _names(counts: tuple[int, ...]) -> tuple[tuple[bytes, ...], str]:
    """The names for h=, and the tag as it is written, for so many fields of each name."""
    names: list[bytes] = []
    for name, count in zip((*ALWAYS, *IF_THERE, *AS_THEY_ARE), counts, strict=True):
        more = name in ALWAYS or (count > 0 and name in IF_THERE)
        if count + len(names) >= NAMES_MAX:
            raise ValueError("the header has too many fields that are to be signed")
        names += [name] * (count + more)
    return tuple(names), folded_names("h=", names)


def _opening(algorithm: str, domain: str, selector: str, times: str) -> str:
    tags = ["v=1;", f"a={algorithm};", "c=relaxed/relaxed;", f"d={domain};", f"s={selector};", *times.split(" ")]
    return folded_tags(tags, len(_NAME) + 2)


def folded_tags(tags: Sequence[str], column: int) -> str:
    """Tags with spaces between them, folded at 78 octets where they allow it.

    :param tags: each with its semicolon.
    :param column: octets that stand on the line already.
    """
    text = ""
    for tag in tags:
        if not text:
            text, column = tag, column + len(tag)
        elif column + 1 + len(tag) > FOLD_AT:
            text, column = text + _FOLD + tag, 1 + len(tag)
        else:
            text, column = f"{text} {tag}", column + 1 + len(tag)
    return text


def folded_names(tag: str, names: Sequence[bytes]) -> str:
    """Names of header fields with colons between them, on a new line that begins with a tab, folded at 78 octets."""
    text, column = tag, 1 + len(tag)
    for place, name in enumerate(names):
        word = name.decode("ascii") + (":" if place < len(names) - 1 else "")
        if column + len(word) + 1 > FOLD_AT and place:
            text, column = text + _FOLD, 1
        text, column = text + word, column + len(word)
    return text


def folded_base64(octets: bytes, column: int) -> str:
    """Octets in base64, folded at 78 octets.

    :param column: octets that stand behind the tab on the line already.
    """
    text = b64encode(octets).decode("ascii")
    first, rest = FOLD_AT - 1 - column, FOLD_AT - 1
    return _FOLD.join([text[:first], *(text[start : start + rest] for start in range(first, len(text), rest))])
