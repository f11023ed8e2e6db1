"""T24 end to end: the tricks of ``test_from_tricks``, brought by SMTP.

The attacker's host may send for ``attacker.test``, and its mails have a good signature of that domain. Whatever From
looks like, the mail is refused, or kept without a pass for the victim.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.test_from_tricks import AMBIGUOUS, ATTACKER, CLEAR, VICTIM
from tests.inbound.checked import CheckedReceiver, key_of, signed
from twisted_mail_node.message.authresults import parse
from twisted_mail_node.message.header import border, fields
from twisted_mail_node.settings_verification import CheckRule

HOST = "192.0.2.66"
REST = b"To: joe@example.org\r\nSubject: Your account\r\n\r\nThis is your bank.\r\n"
#: A rule that keeps everything: what is kept must not pass either.
NOTE = [
    CheckRule.model_validate({"method": method, "results": [result], "action": "note"})
    for method, result in (
        ("from", "fail"), ("from", "permerror"), ("dmarc", "reject"), ("dmarc", "quarantine"), ("dmarc", "temperror")
    )
]  # fmt: skip


def names() -> dict[str, Any]:
    """The DNS: both have records, and the attacker's are in order."""
    return {
        VICTIM: {"TXT": [b"v=spf1 -all"]},
        f"_dmarc.{VICTIM}": {"TXT": [b"v=DMARC1; p=reject"]},
        ATTACKER: {"TXT": [f"v=spf1 ip4:{HOST} -all".encode()]},
        f"_dmarc.{ATTACKER}": {"TXT": [b"v=DMARC1; p=none"]},
        f"s1._domainkey.{ATTACKER}": {"TXT": [key_of(ATTACKER).public_record().encode()]},
    }


def brought(mail: bytes, rules: list[CheckRule], path: str, way: str) -> CheckedReceiver:
    """The receiver, after the attacker brought a mail."""
    node = CheckedReceiver(rules, names())
    peer = node.connect(HOST)
    peer.say(f"EHLO {ATTACKER}")
    body = " BODY=BINARYMIME" if way == "BINARYMIME" else " SMTPUTF8" if way == "SMTPUTF8" else ""
    peer.say(f"MAIL FROM:<{path}>{body}", "RCPT TO:<joe@example.org>")
    if way == "DATA":
        peer.say("DATA")
        peer.send(mail.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    else:
        peer.send(b"BDAT %d LAST\r\n" % len(mail) + mail)
    return node


class FromReceivedTests(SynchronousTestCase):
    """T24."""

    def check(self, name: str, node: CheckedReceiver) -> None:
        """What holds of each mail that was kept."""
        for mail in node.queue.mails:
            whole = mail.header + mail.content
            told = [one for one in fields(whole[: border(whole)]) if one.name.lower() == b"authentication-results"]
            self.assertEqual(len(told), 1, name)
            for one in parse(told[0].unfolded).results:
                properties = [value for _, _, value in one.properties]
                if one.result == "pass":
                    self.assertFalse([value for value in properties if VICTIM in value.split("@")[-1:]], (name, one))
                if one.method == "dmarc" and one.result == "pass":
                    self.assertEqual(one.value("header", "from").rpartition(".")[0].split(".")[-1], "attacker", name)
        for outcome, _ in node.counted:
            if outcome.dmarc.result == "pass":
                self.assertTrue(outcome.dmarc.domain.endswith(ATTACKER), name)

    def test_ambiguous(self) -> None:
        """What readers disagree about is refused, or kept without any pass of DMARC, even where rules keep all."""
        for rules in ([], NOTE):
            for path in (f"x@{ATTACKER}", ""):
                for way in ("DATA", "BDAT", "BINARYMIME", "SMTPUTF8"):
                    for name, header in AMBIGUOUS.items():
                        mail = header + REST
                        node = brought(mail, rules, path, way)
                        self.check(name, node)
                        for kept in node.queue.mails:
                            self.assertNotIn(b"dmarc=pass", kept.header, name)

    def test_signed(self) -> None:
        """The same where the attacker's signature is good."""
        for rules in ([], NOTE):
            for name, header in {**AMBIGUOUS, **{name: header for name, (header, _) in CLEAR.items()}}.items():
                try:
                    mail = signed(header + REST, key_of(ATTACKER))
                except ValueError:
                    continue  # not even a signer of ours takes it
                node = brought(mail, rules, f"x@{ATTACKER}", "DATA")
                self.check(name, node)

    def test_clear(self) -> None:
        """What shows the victim to all readers is refused as the victim asks."""
        for name, (header, domain) in CLEAR.items():
            node = brought(header + REST, [], f"x@{ATTACKER}", "DATA")
            self.check(name, node)
            if domain == VICTIM:
                self.assertEqual(node.queue.mails, [], name)

    def test_forged_results(self) -> None:
        """A forged field of ours never stands above the body, wherever the header is broken (T25, T07)."""
        forged = b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n"
        for rules in ([], NOTE):
            for way in ("DATA", "BDAT", "BINARYMIME"):
                for name, header in AMBIGUOUS.items():
                    broken = header + b"nothing\r\n" + forged + REST
                    for mail in (forged + header + REST, header + forged + REST, broken):
                        node = brought(mail, rules, f"x@{ATTACKER}", way)
                        for kept in node.queue.mails:
                            lax = (kept.header + kept.content).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                            above = lax.partition(b"\n\n")[0]
                            self.assertNotIn(b"dmarc=pass header.from=bank.example", above, (name, way))
