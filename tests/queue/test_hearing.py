"""Which words of a host close its window, by what the data file says of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.hearing import Heard, hear
from twisted_mail_node.reasons import Reason


def heard(reply: str, host: str = "mx.example.net") -> Heard:
    """What a recipient's reply says of the host."""
    code, _, rest = reply.partition(" ")
    enhanced = rest.partition(" ")[0] if rest[:2] in ("4.", "5.") else f"{code[0]}.0.0"
    failed = code.startswith("5")
    action, reason = (Action.FAILED, Reason.REMOTE_REFUSED) if failed else (Action.DELAYED, Reason.REMOTE_DELAYED)
    return hear([DeliveryStatus(action, enhanced, reason, reply, host, "192.0.2.7:25", True)], understand)


class WordsTests(SynchronousTestCase):
    def test_host(self) -> None:
        """It is too much for the host: too fast, too many connections, no room (RFC 5321 section 4.2.2: 452)."""
        for reply in (
            "421 4.7.0 Try again later, closing connection.",
            "421 4.7.0 try again later",
            "452",
            "452 4.3.1 Insufficient system storage",
            "452 4.5.3 Too many recipients",
            "451 4.7.1 rate limited",
            "450 rate limited, slow down",
            "421 Too many concurrent SMTP connections from this IP address",
            "550 5.7.1 sending rate exceeded: rate limited",
        ):
            with self.subTest(reply=reply):
                slower = heard(reply).slower
                assert slower is not None
                self.assertEqual(slower.words, reply)

    def test_one_recipient(self) -> None:
        """It is about one recipient, one mail or one sender: others at the host need not wait for it."""
        for reply, host in (
            ("452 4.2.2 mailbox full", ""),
            ("450 4.2.0 Greylisted, please come back later", ""),
            ("450 4.2.1 later", ""),
            (
                "450 4.2.1 The user you are trying to contact is receiving email at a rate that prevents additional "
                "messages from being delivered.",
                "gmail-smtp-in.l.google.com",
            ),
            ("432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded", "x.mail.protection.outlook.com"),
            ("550 5.1.1 user unknown", ""),
        ):
            with self.subTest(reply=reply):
                found = heard(reply, host)
                self.assertIsNone(found.slower)
                self.assertIsNone(found.failure)
                self.assertEqual(found.answer, reply.startswith("5"))
