"""Tests of what stands behind replies and delivery statuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message import cause
from twisted_mail_node.message.cause import (
    Cause,
    Kind,
    cause_named,
    causes,
    codes_of,
    is_reply,
    known,
    understand,
    understand_reply,
)
from twisted_mail_node.message.reply_rules import TEXT_MAX, Rules, take_apart
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import HELD, HELD_BACK, NOT_TRIED

REPLIES = Path(__file__).with_name("replies.txt")


class Line(NamedTuple):
    """A line of ``replies.txt``."""

    cause: str
    host: str
    text: str


def lines() -> list[Line]:
    """All of them."""
    found = []
    for line in REPLIES.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            code, host, text = line.split("|", 2)
            found.append(Line(code.strip(), host.strip(), text.strip().replace("\\n", "\n")))
    return found


def delayed(
    words: str, status: str = "4.0.0", reason: Reason = Reason.REMOTE_DELAYED, host: str = ""
) -> DeliveryStatus:
    """What a host put off."""
    return DeliveryStatus(Action.DELAYED, status, reason, words, host, from_remote=True)


class RepliesTest(SynchronousTestCase):
    """Replies of other hosts."""

    def test_table(self) -> None:
        """Each reply of the table is understood as it says."""
        found = lines()
        self.assertGreater(len(found), 200)
        wrong = [
            f"{line.text!r}: {understand_reply(line.text, line.host).code} instead of {line.cause}"
            for line in found
            if understand_reply(line.text, line.host).code != line.cause
        ]
        self.assertEqual(wrong, [])

    def test_every_line_is_hit(self) -> None:
        """Each line of replies.toml is the first that fits some reply of the table."""
        rules = known().rules
        hit = {id(rules.first(take_apart(line.text), line.host)) for line in lines()}
        self.assertEqual([rule for rule in rules.rules if id(rule) not in hit], [])

    def test_as_the_wire_brings_it(self) -> None:
        """A delivery status with the reply's words on one line is understood like the reply itself."""
        for line in lines():
            with self.subTest(text=line.text):
                text = " ".join(re.sub(r"^\d{3}[- ]", "", part) for part in line.text.split("\n"))
                words = f"{line.text[:3]} {text}" if line.text[:3].isdigit() else line.text
                failed = not words.startswith("4")
                status = DeliveryStatus(
                    Action.FAILED if failed else Action.DELAYED, "5.0.0" if failed else "4.0.0",
                    Reason.REMOTE_REFUSED if failed else Reason.REMOTE_DELAYED, words, line.host, from_remote=True,
                )  # fmt: skip
                self.assertEqual(understand(status).code, line.cause)

    def test_host(self) -> None:
        """The name of the host tells whose reply it is, in any spelling; a name that only looks like it does not."""
        text = "550 5.7.26 no"
        self.assertEqual(understand_reply("550 5.7.27 no", "MX.Google.Com.").code, "spf-failed")
        self.assertEqual(understand_reply("550 5.7.27 no", "mx.notgoogle.com").code, "sender-null-mx")
        self.assertEqual(understand_reply("550 5.7.27 no", "google.com.example.org").code, "sender-null-mx")
        self.assertEqual(understand_reply(text).code, "unauthenticated")

    def test_words_are_whole(self) -> None:
        """A word within another one is not that word, and one of an address says nothing."""
        for text, code in (
            ("550 5.7.1 antispam team says no", "policy-refused"),
            ("550 option ptrace not set", "refused"),
            ("550 marble", "refused"),
            ("550 see blogspfx", "refused"),
            ("550 5.1.1 <spam@greylist.example>: no", "no-such-address"),
        ):
            with self.subTest(text=text):
                self.assertEqual(understand_reply(text).code, code)

    def test_from_a_log(self) -> None:
        """What stands before the reply in a line of a log does no harm."""
        for text in (
            "host mx.example.net[192.0.2.9] said: 550 5.1.1 <ann@example.net>: user unknown (in reply to RCPT TO)",
            "smtp; 550-5.1.1 user 550 5.1.1 unknown",
            "  550 5.1.1 user unknown",
            "5.1.1 user unknown",
            "#5.1.1 user unknown",
        ):
            with self.subTest(text=text):
                self.assertEqual(understand_reply(text).code, "no-such-address")

    def test_nothing_known(self) -> None:
        """What nobody understands is its class: put off, or refused."""
        self.assertEqual(understand_reply("450-\n499 zzz").code, "mailbox-unavailable")
        self.assertEqual(understand_reply("499 zzz").code, "delayed")
        self.assertEqual(understand_reply("599 zzz").code, "refused")
        self.assertEqual(understand_reply("zzz").code, "refused")
        self.assertEqual(understand_reply("").code, "refused")

    def test_success(self) -> None:
        """A host that says yes refuses nothing, whatever its words are."""
        for text in (
            "250 2.0.0 Ok: queued as 4XYZ",
            "250",
            "2.1.5 Ok",
            "354 End with .",
            "250 2.0.0 mailbox full of joy",
        ):
            with self.subTest(text=text):
                self.assertEqual(understand_reply(text).code, "no-failure")

    def test_is_reply(self) -> None:
        """A code, an enhanced status code or words that are known make a reply."""
        for text in ("599 zzz", "#5.9.9 zzz", "250", "mailbox full", "host said: 499 zzz"):
            self.assertTrue(is_reply(text), text)
        for text in ("", "zzz", "999 zzz", "12345"):
            self.assertFalse(is_reply(text), text)

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=3000), st.text(max_size=80))
    def test_any_text(self, text: str, host: str) -> None:
        """Any text from any host has a cause."""
        self.assertIsInstance(understand_reply(text, host), Cause)
        for reason in (Reason.REMOTE_REFUSED, Reason.EXPIRED, Reason.HOST_NOT_READY):
            self.assertIsInstance(understand(delayed(text, "5.0.0", reason, host)), Cause)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from([*sorted(known().rules._by_word), "*", "550", "5.7.1", "-", "\n"]), max_size=400))
    def test_words_of_the_file(self, words: list[str]) -> None:
        """Any order of the words that we know has a cause."""
        self.assertIsInstance(understand_reply(f"550 {' '.join(words)}"), Cause)

    def test_bounded(self) -> None:
        """No more than so many characters of a reply are looked at."""
        self.assertEqual(understand_reply(f"550 {'x' * TEXT_MAX} user unknown").code, "refused")
        self.assertLessEqual(len(take_apart("550 " + "user " * 100_000).text), TEXT_MAX)


class StatusTest(SynchronousTestCase):
    """Delivery statuses."""

    def test_every_reason(self) -> None:
        """Each reason stands in causes.toml, once, and has its cause whoever spoke."""
        self.assertEqual(set(known().of_reason), set(Reason))
        named = re.findall(r'"([a-z0-9-]+)"', "".join(re.findall(r"^reasons = .*", file_text("causes.toml"), re.M)))
        self.assertEqual(sorted(named), sorted(map(str, Reason)))
        for reason in Reason:
            for action in (Action.DELAYED, Action.FAILED):
                with self.subTest(reason=reason):
                    code = understand(DeliveryStatus(action, "4.0.0", reason, "")).code
                    self.assertEqual(code, known().of_reason[reason].code)

    def test_our_own(self) -> None:
        """Where no host spoke, our reason decides, whatever the words are."""
        for reason, code in (
            (Reason.CONNECT_FAILED, "connect-failed"),
            (Reason.DNS_FAILED, "dns-failed"),
            (Reason.SUSPENDED, "suspended"),
            (Reason.SUPPRESSED, "suppressed"),
            (Reason.MAILBOX_FULL, "mailbox-full"),
            (Reason.UNKNOWN_RECIPIENT, "no-such-address"),
            (Reason.DANE_FAILED, "dane-failed"),
            (Reason.EXPIRED, "expired"),
        ):
            with self.subTest(reason=reason):
                status = DeliveryStatus(Action.FAILED, "5.1.1", reason, "550 5.7.1 spam")
                self.assertEqual(understand(status).code, code)

    def test_enhanced_from_the_status(self) -> None:
        """An enhanced status code that the words lack is taken from the status, but not that of a class."""
        self.assertEqual(understand(delayed("450 no", "4.2.2")).code, "mailbox-full")
        self.assertEqual(understand(delayed("450 no", "4.0.0")).code, "mailbox-unavailable")

    def test_expired(self) -> None:
        """What expired is what the host said last; where it said nothing of worth, or nothing, it is just expired."""
        gmail = "421 4.7.28 unusual rate of unsolicited mail - gsmtp"
        self.assertEqual(understand(delayed(gmail, "5.4.7", Reason.EXPIRED)).code, "gmail-rate-limited")
        self.assertEqual(understand(delayed("499 zzz", "5.4.7", Reason.EXPIRED)).code, "expired")
        self.assertEqual(understand(delayed("", "5.4.7", Reason.EXPIRED)).code, "expired")

    def test_greeting(self) -> None:
        """A greeting that turns us away is read; where it says nothing of worth, it is just that."""
        host = "mx00.t-online.de"
        words = "554 IP=192.0.2.1 - A problem occurred. Ask your postmaster for help or to contact tosa@rx.t-online.de"
        self.assertEqual(understand(delayed(words, "5.0.0", Reason.HOST_REFUSED, host)).code, "t-online-blocked")
        self.assertEqual(understand(delayed("554 zzz", "5.0.0", Reason.HOST_REFUSED)).code, "host-refused")

    def test_silent_host(self) -> None:
        """Our own words about a host that said nothing are not read as its."""
        for reason in (Reason.HOST_NOT_READY, Reason.SLOWED, Reason.EXPIRED):
            status = DeliveryStatus(Action.DELAYED, "4.4.5", reason, "it asked for less: 550 5.7.1 spam")
            self.assertEqual(understand(status).code, known().of_reason[reason].code)

    def test_permanent(self) -> None:
        """An unknown user is permanent even where the host says 4yz; a full mailbox is not where it says 5yz."""
        self.assertTrue(understand(delayed("450 4.1.1 user unknown")).permanent)
        self.assertFalse(understand(delayed("552 5.2.2 over quota", "5.2.2", Reason.REMOTE_REFUSED)).permanent)


class CausesTest(SynchronousTestCase):
    """The causes themselves."""

    def test_form(self) -> None:
        """Codes are kebab-case; every cause has three sentences that end; nobody is told nothing."""
        for one in causes():
            with self.subTest(code=one.code):
                self.assertRegex(one.code, r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")
                for sentence in (one.title, one.advice, one.operator):
                    self.assertRegex(sentence, r"\A[A-Z].*[A-Za-z0-9)\]@]\.\Z")
                    self.assertNotIn("\n", sentence)

    def test_unique(self) -> None:
        """No code stands twice, and none is the name of a kind."""
        codes = [one.code for one in causes()]
        self.assertEqual(len(set(codes)), len(codes))
        self.assertEqual(set(codes) & set(Kind), set())

    def test_used(self) -> None:
        """Every cause is the meaning of some reply, of some reason, or of waiting without an attempt; every kind has
        causes."""
        used = {NOT_TRIED, HELD_BACK, HELD}
        used |= {rule.cause for rule in known().rules.rules} | {one.code for one in known().of_reason.values()}
        self.assertEqual({one.code for one in causes()}, used)
        self.assertEqual({one.kind for one in causes()}, set(Kind))

    def test_named(self) -> None:
        """A cause is found by its code; a word may be a code or a kind."""
        one = cause_named("mailbox-full")
        assert one is not None
        self.assertEqual((one.code, one.kind, one.permanent), ("mailbox-full", Kind.MAILBOX, False))
        self.assertIsNone(cause_named("mailbox"))
        self.assertEqual(codes_of("mailbox-full"), ("mailbox-full",))
        self.assertEqual(codes_of("mailbox"), ("mailbox-full", "mailbox-unavailable", "recipient-rate-limited"))
        self.assertEqual(codes_of("colours"), ())
        self.assertEqual(codes_of(""), ())

    def test_greylisting_is_no_rate(self) -> None:
        """What a greylisting host says must not make the queue slower: it is no limit of rate."""
        self.assertIsNot(understand_reply("450 4.2.0 Greylisted").kind, Kind.RATE)


class RulesTest(SynchronousTestCase):
    """The form of replies.toml."""

    def rules(self, **line: object) -> Rules:
        """One rule."""
        return Rules({"provider": {}, "replies": [{"lines": [{"cause": "spam", **line}]}]})

    def test_gaps(self) -> None:
        """A star stands for any text, and for the rest of a word; words beside it stay whole."""
        rules = self.rules(words=["one * two*"])
        for text, fits in (
            ("one two", True),
            ("one and twofold", True),
            ("ones and two", False),
            ("two one", False),
            ("One. Two!", True),
        ):
            with self.subTest(text=text):
                self.assertEqual(rules.first(take_apart(text), "") is not None, fits)

    def test_wrong(self) -> None:
        """A key that is none, and words too short to be found, are errors."""
        self.assertRaisesRegex(ValueError, "word", self.rules, word=["x"])
        self.assertRaisesRegex(ValueError, "cannot be found", self.rules, words=["x*"])


def file_text(name: str) -> str:
    """A file beside the module."""
    return (Path(cause.__file__).with_name(name)).read_text("utf-8")
