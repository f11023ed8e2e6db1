"""Mails to measure with: header sections like real mail's, ordinary prose, and base64 where they are to be larger.

The same size and number give the same mail every time. The prose has what canonicalization looks at: words apart by
several spaces, lines that end in spaces (format=flowed, RFC 3676), empty lines between paragraphs and at the end.
"""

from __future__ import annotations

import base64
import random

#: Octets of prose before an attachment begins: as much as people write.
PROSE = 8192
_BOUNDARY = "=_part_4f2b8c"
_LINE = 72

_TEXT = """
about above account across address after again agree along already also always among another answer apart around
arrive article attach autumn because become before begin behind believe below beside better between beyond both bring
build call carry certain change chapter choose clear close come common consider copy corner could country cover date
deliver describe detail differ draw during early either enclose enough enter even evening every example expect explain
fact false far field figure find first follow forward found garden general give glad great ground half happen harbour
hear help here high hold house however hundred important in into invoice island just keep kind know large last late
learn leave letter level like likely line list little long look mail make many market matter maybe meaning measure
meeting message might minute month more morning most mountain much must near need never next night notice number of
offer office often only open order other our over own page paper part pass people perhaps place plain plan please
point possible present press problem promise prove public question quick quite rather reach read ready reason receive
remain remember reply report rest result return right river road room round same say season second see send sentence
several short should show simple since small so some soon sort sound south speak spring stand start state station stay
still stop story street such summer sure table take tell than thank that the their them then there these they thing
think this those though thousand through time to today together tomorrow toward town travel true turn under understand
until upon use usual valley very village wait walk want water way week welcome well west what when where which while
white whole why will window winter with within without word work world would write year yesterday yet you young
"""
_WORDS = _TEXT.split()


def prose(octets: int, chance: random.Random) -> bytes:
    """Paragraphs of sentences, at least so many octets of whole lines with CRLF."""
    lines: list[str] = []
    have = 0
    while have < octets:
        for line in _paragraph(chance):
            lines.append(line)
            have += len(line) + 2
    return ("\r\n".join(lines) + "\r\n").encode()


def _paragraph(chance: random.Random) -> list[str]:
    line, lines = "", []
    for _ in range(chance.randint(2, 7)):
        words = chance.choices(_WORDS, k=chance.randint(5, 20))
        words[0], words[-1] = words[0].capitalize(), words[-1] + ". "
        for word in words:
            if len(line) + len(word) > _LINE:
                lines.append(line if chance.random() < 0.4 else line.rstrip())
                line = ""
            line += word + " "
    return [*lines, line.rstrip(), ""]


def plain(text: bytes) -> bytes:
    """Prose in which relaxed canonicalization changes nothing."""
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text.replace(b" \r\n", b"\r\n")


def long_prose(octets: int, chance: random.Random) -> bytes:
    """So much prose that writing it word by word would take long: 256 KiB of it, again and again."""
    page = prose(min(octets, 1 << 18), chance)
    return (page * (octets // len(page) + 1))[:octets].rpartition(b"\r\n")[0] + b"\r\n"


def attachment(octets: int, chance: random.Random) -> bytes:
    """Lines of base64, so many octets or a little fewer."""
    lines = octets // 78
    page = base64.encodebytes(chance.randbytes(min(lines, 20_000) * 57)).replace(b"\n", b"\r\n")
    return (page * (octets // max(len(page), 1) + 1))[: lines * 78]


def mail_of(size: int, domain: str, number: int = 0, rcpt: str = "u@local.test", kind: str = "usual") -> bytes:
    """A whole mail of about ``size`` octets (a line more or less) from ``domain``.

    :param kind: ``usual`` (prose, and base64 from 8 KiB on), or a body of nothing but ``prose``, ``plain`` prose,
        ``base64``, empty lines (``empty``) or lines of spaces (``spaces``).
    """
    chance = random.Random(f"{size} {domain} {number}")
    if kind == "usual":
        kind = "attached" if size > 2 * PROSE else "prose"
    header = _header(domain, number, rcpt, kind, chance)
    return header + b"\r\n" + _body(max(size - len(header) - 2, 100), kind, chance)


def _body(octets: int, kind: str, chance: random.Random) -> bytes:
    if kind == "prose":
        return long_prose(octets, chance)
    if kind == "plain":
        return plain(long_prose(octets, chance))
    if kind == "base64":
        return attachment(octets, chance)
    if kind == "empty":
        return b"first\r\n" + b"\r\n" * (octets // 2)
    if kind == "spaces":
        return b"first\r\n" + (b" " * 70 + b"\r\n") * (octets // 72)
    text = (
        f"--{_BOUNDARY}\r\nContent-Type: text/plain; charset=us-ascii; format=flowed\r\n\r\n".encode()
        + prose(PROSE, chance)
        + f"--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="report.bin"\r\n\r\n'.encode()
    )
    end = f"\r\n--{_BOUNDARY}--\r\n".encode()
    return text + attachment(max(octets - len(text) - len(end), 78), chance) + end


def _header(domain: str, number: int, rcpt: str, kind: str, chance: random.Random) -> bytes:
    """What real mail has: trace fields, folded fields, spaces at odd places."""
    name = f"{chance.getrandbits(64):016x}.{number}@{domain}"
    subject = " ".join(chance.choices(_WORDS, k=9)).capitalize()
    if kind == "attached":
        mime = f'Content-Type: multipart/mixed;\r\n\tboundary="{_BOUNDARY}"\r\n'
    elif kind == "base64":
        mime = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
    else:
        mime = "Content-Type: text/plain; charset=us-ascii; format=flowed\r\nContent-Transfer-Encoding: 7bit\r\n"
    return (
        f"Received: from inside.{domain} (inside.{domain} [192.0.2.17])\r\n"
        f"\tby out.{domain} with ESMTPS id {chance.getrandbits(60):015X}\r\n"
        f"\tfor <{rcpt}>; Fri, 27 Nov 2026 09:12:{number % 60:02d} +0000\r\n"
        f"Received: from desk.{domain} ([198.51.100.{chance.randint(1, 250)}])\r\n"
        f"\tby inside.{domain} with ESMTPSA id {chance.getrandbits(60):015X};\r\n"
        f"\tFri, 27 Nov 2026 09:12:{number % 60:02d} +0000 (UTC)\r\n"
        f"From: Office <office@{domain}>\r\n"
        f"To: {rcpt}\r\n"
        f"Cc:  list@{domain},\r\n"
        f" archive@{domain}\r\n"
        f"Subject: {subject}\r\n"
        f"Date: Fri, 27 Nov 2026 09:12:{number % 60:02d} +0000\r\n"
        f"Message-ID: <{name}>\r\n"
        f"In-Reply-To: <{chance.getrandbits(64):016x}@local.test>\r\n"
        f"References: <{chance.getrandbits(64):016x}@local.test>\r\n"
        f"\t<{chance.getrandbits(64):016x}@{domain}>\r\n"
        "MIME-Version: 1.0\r\n"
        f"{mime}"
        f"List-Unsubscribe: <mailto:leave@{domain}?subject=leave>\r\n"
        f"X-Mailer: Desk  7.{number % 10}\r\n"
    ).encode()
