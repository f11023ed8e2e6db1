"""Signing (RFC 6376 section 5)."""

from __future__ import annotations

import dkim  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.dkim import DOMAIN, NOW, ed25519_key, published, rsa_key, rsa_pem, signed, verified
from twisted_mail_node.mailauth.dkim_sign import ALWAYS, sign
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.signature import NAMES_MAX
from twisted_mail_node.mailauth.tags import read
from twisted_mail_node.message.header import fields

KEYS = (rsa_key(1024), ed25519_key())
ZONE = published(*KEYS)
FROM = b"From: Joe <joe@example.org>\r\n"
MAIL = FROM + b"To: suzie@example.net\r\nSubject: Is\r\n\tdinner ready?\r\n\r\nHi.\r\n"

NAMES = st.sampled_from(
    b"To|Cc|subject|SUBJECT |List-Id|List-Unsubscribe|Resent-From|Received|X-A|Sender|Content-Type|From".split(b"|")
)
VALUES = st.lists(st.sampled_from(b"a| |\t|\r\n |\xe4|;|:|b=|\x0b".split(b"|")), max_size=8).map(b"".join)
BODIES = st.lists(st.sampled_from([b"a", b" ", b"\r\n", b".", b"\xff", b"\t\r\n"]), max_size=12).map(b"".join)


def by_dkimpy(mail: bytes, place: int = 0) -> bool:
    """What dkimpy says of the signature at this place."""

    def txt(name: bytes, timeout: float = 5) -> bytes | None:
        return next(iter(ZONE.get(name.decode().rstrip("."), [])), None)

    try:
        return bool(dkim.DKIM(mail).verify(place, dnsfunc=txt))
    except dkim.ValidationError:
        return False


def names_of(mail: bytes) -> list[str]:
    """The h= of the first signature."""
    return read(fields(mail)[0].value)["h"].replace(" ", "").split(":")


class SignTest(SynchronousTestCase):
    """``sign``."""

    def test_tags(self) -> None:
        """A field for each key, in the order of the keys; relaxed/relaxed, t=, x= when wanted, and never l=."""
        mail = signed(MAIL, *KEYS, when=NOW + 0.9, expires=NOW + 60.9)
        self.assertTrue(mail.endswith(MAIL))
        first, second = fields(mail)[:2]
        for field, key in ((first, KEYS[0]), (second, KEYS[1])):
            self.assertEqual(field.name, b"DKIM-Signature")
            tags = read(field.value)
            self.assertEqual(list(tags), ["v", "a", "c", "d", "s", "t", "x", "h", "bh", "b"])
            self.assertEqual((tags["a"], tags["c"], tags["d"]), (key.algorithm, "relaxed/relaxed", DOMAIN))
            self.assertEqual((tags["s"], tags["t"], tags["x"]), (key.selector, f"{NOW:.0f}", f"{NOW + 60:.0f}"))
        self.assertNotIn("x", read(fields(signed(MAIL, KEYS[0]))[0].value))

    def test_names(self) -> None:
        """Every field that people go by is named once more than it is there; those that lists add only when they are
        there; Resent fields as they are; trace fields and those nobody knows not at all."""
        names = names_of(signed(MAIL, KEYS[0]))
        self.assertEqual(set(names), {name.decode() for name in ALWAYS})
        counts = {name: names.count(name) for name in names}
        self.assertEqual([counts[name] for name in ("from", "to", "subject", "cc", "reply-to")], [2, 2, 2, 1, 1])
        more = b"Received: x\r\nList-Unsubscribe: <x>\r\nSender: a@b\r\nX-Y: z\r\nTo: t\r\n"
        more += b"Resent-From: x\r\nResent-From: y\r\n"
        names = names_of(signed(more + MAIL, KEYS[0]))
        counts = {name: names.count(name) for name in names}
        self.assertEqual([counts[name] for name in ("list-unsubscribe", "sender", "resent-from", "to")], [2, 2, 2, 3])
        self.assertFalse({"received", "x-y", "list-id", "dkim-signature", "return-path"} & set(counts))

    def test_added_later(self) -> None:
        """Nothing that is named can be added, above or below; a mailing list may add its own."""
        mail = signed(MAIL, KEYS[1])
        for name in ALWAYS:
            for changed in (name + b": x\r\n" + mail, mail.replace(b"\r\n\r\n", b"\r\n" + name + b": x\r\n\r\n", 1)):
                self.assertIs(verified(changed, ZONE)[0].result, Result.FAIL, name)
        for more in (
            b"Received: x\r\n",
            b"List-Id: x\r\n",
            b"Sender: x@y\r\n",
            b"X-Spam: no\r\n",
            b"Resent-From: x\r\n",
        ):
            self.assertIs(verified(more + mail, ZONE)[0].result, Result.PASS, more)
        mail = signed(b"List-Unsubscribe: <a>\r\n" + MAIL, KEYS[1])
        self.assertIs(verified(b"List-Unsubscribe: <b>\r\n" + mail, ZONE)[0].result, Result.FAIL)

    def test_lines(self) -> None:
        """Lines have at most 78 octets where names allow it, and never more than 998."""
        for key in (rsa_key(2048), ed25519_key("s" * 40, "x." * 30 + DOMAIN)):
            mail = signed(b"List-Id: x\r\nSender: y\r\n" + MAIL, key, expires=NOW + 1)
            lines = mail.removesuffix(MAIL).split(b"\r\n")
            self.assertLess(max(map(len, lines)), 79)
            self.assertIs(verified(mail, published(key))[0].result, Result.PASS)
        key = ed25519_key(".".join(["s" * 60] * 3), ".".join(["d" * 50] * 4))
        lines = signed(MAIL, key).split(b"\r\n")
        self.assertLess(max(map(len, lines)), 300)

    def test_refused(self) -> None:
        """A mail without From cannot be signed (section 5.4), nor one with so many fields that nobody would look."""
        self.assertRaises(ValueError, sign, b"To: x\r\n\r\n", b"", KEYS, now=NOW)
        self.assertRaises(ValueError, sign, b"From : x\r\n" * NAMES_MAX, b"", KEYS, now=NOW)
        sign(b"From : x\r\n" * 900, bytes(32), KEYS, now=NOW)

    def test_empty(self) -> None:
        """A mail of nothing but a header, with and without its empty line."""
        for mail in (FROM, FROM + b"\r\n", FROM + b"\r\n\r\n\r\n"):
            found = verified(signed(mail, *KEYS), ZONE)
            self.assertEqual([one.result for one in found], [Result.PASS, Result.PASS])

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8), BODIES)
    def test_verified(self, more: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Whatever we sign, we find good: fields that stand several times, are folded, have octets outside ASCII or a
        space before the colon."""
        header = FROM + b"".join(name + b":" + value.strip(b"\r\n ") + b"\r\n" for name, value in more)
        found = verified(signed(header + b"\r\n" + body, *KEYS), ZONE)
        self.assertEqual([one.result for one in found[:2]], [Result.PASS, Result.PASS])


class DkimpyTest(SynchronousTestCase):
    """What another implementation says."""

    def test_ours_by_dkimpy(self) -> None:
        """dkimpy finds our signatures good, and a changed mail bad."""
        for body in (b"", b"Hi.\r\n", b" a \t b \r\n\r\n.\r\n..\r\n\r\n\r\n", b"x" * 70_000 + b"\r\n \r\n"):
            mail = signed(MAIL + body, rsa_key(1024), ed25519_key())
            self.assertTrue(by_dkimpy(mail))
            self.assertTrue(by_dkimpy(mail, 1))
        self.assertFalse(by_dkimpy(signed(MAIL, KEYS[0]) + b"x"))
        self.assertFalse(by_dkimpy(b"Subject: x\r\n" + signed(MAIL, KEYS[0])))

    def test_dkimpys_by_us(self) -> None:
        """We find dkimpy's signatures good, under all canonicalizations."""
        pem = rsa_pem(KEYS[0])
        for header in (b"simple", b"relaxed"):
            for body in (b"simple", b"relaxed"):
                mail = MAIL + b" a \t b \r\n\r\n.\r\n\r\n"
                field = dkim.sign(mail, b"rsa", DOMAIN.encode(), pem, canonicalize=(header, body))
                self.assertIs(verified(field + mail, ZONE, 4e9)[0].result, Result.PASS)
