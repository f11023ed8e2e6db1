"""A mail is checked while it comes in, and what follows is done."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.checked import DOMAIN, HOST, MAIL, SELECTOR, CheckedReceiver, key_of, results_of, signed, told, zone
from tests.inbound.receiving import STRANGER, DictDirectory
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.events import MailAccepted, MailRefused
from twisted_mail_node.events_checked import MailChecked
from twisted_mail_node.mailauth.dkim_verify import Verifier as Signatures
from twisted_mail_node.message.header import count, fields
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_verification import CheckRule
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.spool.mail import SpoolError


def rule(method: str, result: str, action: str, **more: Any) -> CheckRule:
    """A rule of the settings."""
    return CheckRule.model_validate({"method": method, "results": [result], "action": action, **more})


class CheckedTests(SynchronousTestCase):
    def receiver(self, *rules: CheckRule, **more: Any) -> CheckedReceiver:
        """A receiver with these rules."""
        self.node = CheckedReceiver(rules, **more)
        return self.node

    def test_good(self) -> None:
        """A mail that is what it says is taken; field, event and count tell every result."""
        node = self.receiver()
        self.assertTrue(node.bring(signed(), client=HOST).startswith("250 2.0.0"))
        (mail,) = node.queue.mails
        self.assertEqual(told(mail), {"iprev": "pass", "spf": "pass", "dkim": "pass", "dmarc": "pass"})
        self.assertEqual(results_of(mail).authserv_id, "mx.example.org")
        self.assertEqual(mail.content, signed())
        self.assertEqual(mail.envelope.quarantine, "")
        (event,) = node.of(MailChecked)
        self.assertEqual(
            (event.queue_id, event.author, event.dmarc, event.action), (mail.queue_id, DOMAIN, "pass", "note")
        )
        self.assertEqual(event.queue_id, node.of(MailAccepted)[0].queue_id)
        ((outcome, decision),) = node.counted
        self.assertTrue(outcome.dmarc.dkim_aligned and outcome.dmarc.spf_aligned)
        self.assertEqual(decision.action, "note")

    def test_either(self) -> None:
        """DMARC needs one of the two: a signature that travelled, or a client of the domain."""
        node = self.receiver()
        node.bring(signed(), path="list@lists.example")
        node.bring(MAIL, client=HOST)
        self.assertEqual([told(mail)["dmarc"] for mail in node.queue.mails], ["pass", "pass"])

    def test_forged(self) -> None:
        """A mail of a stranger is refused as the domain asks; nothing of it is kept."""
        node = self.receiver()
        self.assertEqual(
            node.bring(MAIL),
            f"550 5.7.26 DMARC of {DOMAIN} asks to reject: spf=fail (client {STRANGER}), dkim=none\r\n",
        )
        self.assertEqual(node.queue.mails, [])
        (event,) = node.of(MailRefused)
        self.assertEqual(event.reason, Reason.DMARC_FAILED)
        ((_, decision),) = node.counted
        self.assertEqual(decision.action, "refuse")

    def test_changed(self) -> None:
        """A signature over another body is none."""
        reply = self.receiver().bring(signed().replace(b"Hello", b"Hallo"))
        self.assertIn("asks to reject", reply)
        self.assertIn("dkim=fail", reply)

    def test_quarantine(self) -> None:
        """A mail in quarantine is taken, says so in its header, and the envelope remembers it."""
        names = zone() | {f"_dmarc.{DOMAIN}": {"TXT": [b"v=DMARC1; p=quarantine"]}}
        node = self.receiver(names=names)
        node.bring(MAIL)
        (mail,) = node.queue.mails
        self.assertEqual(mail.envelope.quarantine, "dmarc")
        first, second, *_ = fields(mail.header)
        self.assertEqual((first.name, second.name), (b"Authentication-Results", b"X-Quarantine"))
        self.assertTrue(second.unfolded.startswith(b"dmarc; DMARC of bank.example asks to quarantine: spf=fail"))

    def test_rule(self) -> None:
        """A rule of the settings overrules what a domain asks for, by sender and recipient."""
        node = self.receiver(
            rule("dmarc", "reject", "quarantine", senders=["bank.example"], recipients=["example.org"])
        )
        self.assertTrue(node.bring(MAIL).startswith("250"))
        self.assertEqual(node.queue.mails[0].envelope.quarantine, "dmarc")

    def test_header_alone(self) -> None:
        """Content may end with its last field (RFC 5322 section 3.5): such a mail is one like others."""
        header = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n"
        node = self.receiver()
        self.assertTrue(node.bring(header, client=HOST).startswith("250"))
        peer = node.session("MAIL FROM:<ann@bank.example>", "RCPT TO:<joe@example.org>", client=HOST)
        peer.send(b"BDAT %d LAST\r\n" % len(header) + header)
        self.assertEqual([told(mail)["dmarc"] for mail in node.queue.mails], ["pass", "pass"])
        self.assertEqual([mail.content for mail in node.queue.mails], [header, header])

    def test_header_alone_signed(self) -> None:
        """Its signatures count: the body they sign is empty."""
        node = self.receiver()
        content = signed(MAIL.partition(b"Hello")[0])[:-2]
        self.assertTrue(node.bring(content, path="list@lists.example").startswith("250"))
        self.assertEqual(told(node.queue.mails[0])["dkim"], "pass")

    def test_nothing(self) -> None:
        """An empty mail has no author, but nobody can doubt what it is: it is no trick."""
        node = self.receiver()
        self.assertTrue(node.bring(b"", client=HOST).startswith("250"))
        self.assertEqual(node.queue.mails[0].envelope.quarantine, "from")

    def test_settings_meanwhile(self) -> None:
        """Other settings, read in the middle of a mail, are for the next one: it is judged, by those who began."""
        forged = b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n"
        node = self.receiver()
        peer = node.session("MAIL FROM:<ann@bank.example>", "RCPT TO:<joe@example.org>", client=HOST)
        judge, node.factory.judge = node.factory.judge, None
        peer.say("DATA")
        node.factory.authserv_id = "new.example.org"
        peer.send(forged + signed() + b".\r\n")
        self.assertTrue(peer.said().startswith("250"))
        (mail,) = node.queue.mails
        self.assertEqual((told(mail)["dmarc"], results_of(mail).authserv_id), ("pass", "mx.example.org"))
        self.assertEqual(mail.content, signed())
        node.factory.judge = judge

    def test_counted_once(self) -> None:
        """A mail that could not be kept counts when it comes again, and one that another policy refuses does not."""
        node = self.receiver()
        node.queue.commit_error = SpoolError("the disk is slow")
        self.assertTrue(node.bring(signed()).startswith("451"))
        self.assertEqual(node.counted, [])
        node.queue.commit_error = None
        node.bring(signed())
        self.assertEqual(len(node.counted), 1)
        no = Refuse(Reply.make(550, "5.7.1", "No"))

        class No(Policy):
            async def content(self, asked: Asked) -> Verdict | None:
                return no

        node.factory.chain = Chain([No()], node.clock, 30.0)
        self.assertTrue(node.bring(signed()).startswith("550 5.7.1 No"))
        self.assertEqual(len(node.counted), 1)

    def test_every_cut(self) -> None:
        """However the content is cut into packets, the result is the same."""
        mail = signed()
        for size in (1, 7, 100, len(mail)):
            node = self.receiver()
            peer = node.session("MAIL FROM:<list@lists.example>", "RCPT TO:<joe@example.org>")
            peer.say("DATA")
            octets = mail + b".\r\n"
            peer.send(octets, range(size, len(octets), size))
            self.assertTrue(peer.said().startswith("250 2.0.0"), size)
            self.assertEqual(node.queue.mails[0].content, mail)

    def test_chunks(self) -> None:
        """BDAT is checked like DATA."""
        mail = signed()
        node = self.receiver()
        peer = node.session("MAIL FROM:<list@lists.example>", "RCPT TO:<joe@example.org>")
        peer.send(b"BDAT 100\r\n" + mail[:100] + b"BDAT %d LAST\r\n" % len(mail[100:]) + mail[100:])
        self.assertEqual(told(node.queue.mails[0])["dkim"], "pass")

    def test_several_mails(self) -> None:
        """What is known of the client is asked for once in a session; each mail has its own results."""
        node = self.receiver()
        peer = node.session(client=HOST)
        for mail in (signed(), MAIL):
            peer.say("MAIL FROM:<ann@bank.example>", "RCPT TO:<joe@example.org>")
            peer.say("DATA")
            peer.send(mail + b".\r\n")
        self.assertEqual([told(mail)["dkim"] for mail in node.queue.mails], ["pass", "none"])
        self.assertEqual(node.resolver.asked.count(("50.2.0.192.in-addr.arpa", "PTR")), 1)

    def test_null_reverse_path(self) -> None:
        """For a bounce the name in EHLO counts; it aligns no From of others (T24)."""
        node = self.receiver()
        reply = node.bring(MAIL, path="")
        self.assertIn("asks to reject", reply)

    def test_no_sure_author(self) -> None:
        """Without a sure author nothing passes; the strictest of the domains that a reader may see is obeyed (T24)."""
        node = self.receiver()
        for author, code in {
            b"x@attacker.example, ann@bank.example": "550 5.7.26 DMARC of bank.example asks to reject",
            b"ann@bank.example <x@attacker.example>": "550 5.7.26 DMARC of bank.example asks to reject",
            b"=?utf-8?q?ann=40bank.example?= <x@attacker.example>": "550 5.7.26 DMARC of bank.example asks to reject",
            b"x@attacker.example\r\nFrom: ann@bank.example": "550 5.7.1 Nobody can be sure",
            b"x@attacker.example <y@other.example>": "250",
            b"MAILER-DAEMON": "250",
            b", ".join(b"a@d%d.example" % number for number in range(9)): "550 5.7.1 Nobody can be sure",
        }.items():
            reply = node.bring(MAIL.replace(b"Ann <ann@bank.example>", author), path="x@attacker.example")
            self.assertTrue(reply.startswith(code), (author, reply))
        self.assertEqual([mail.envelope.quarantine for mail in node.queue.mails], ["from", "from"])
        self.assertEqual([told(mail)["dmarc"] for mail in node.queue.mails], ["permerror", "permerror"])

    def test_forged_results(self) -> None:
        """Results that claim to be ours are gone, those of others stay; the signature covers what was sent (T25)."""
        forged = (
            b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n"
            b"Authentication-Results: other.example; spf=pass\r\n"
        )
        mail = signed(forged + MAIL)
        for client, judged in ((HOST, True), ("127.0.0.1", False)):
            node = self.receiver()
            if not judged:
                node.factory.judge = None
            node.bring(mail, client=client)
            (kept,) = node.queue.mails
            self.assertEqual(kept.content, mail.replace(forged.splitlines(True)[0], b""))
            self.assertEqual(count(kept.header, b"Authentication-Results"), int(judged))
            if judged:
                self.assertEqual(told(kept)["dkim"], "pass")

    def test_sealed(self) -> None:
        """What an alias leads to another host gets a seal that the next host can check; what stays here gets none."""
        people = {"joe@example.org": ("joe@example.org",), "list@example.org": ("ann@elsewhere.example",)}
        node = self.receiver(directory=DictDirectory(people))
        key = key_of("example.org", "arc")
        node.factory.sealing_key = lambda domain: key if domain == "example.org" else None
        for to in ("list@example.org", "joe@example.org"):
            self.assertTrue(node.bring(signed(), to=[to]).startswith("250"), to)
        there, here = node.queue.mails
        self.assertEqual(count(here.header, b"ARC-Seal"), 0)
        self.assertEqual([count(there.header, name) for name in (b"ARC-Seal", b"Authentication-Results")], [1, 1])
        whole = there.header + there.content
        names = zone() | {"arc._domainkey.example.org": {"TXT": [key.public_record().encode()]}}
        second = CheckedReceiver(names=names, trusted=frozenset({"example.org"}))
        second.bring(whole.replace(b"Hello", b"Hello from the list"), path="bounces@example.org")
        (event,) = second.of(MailChecked)
        self.assertEqual((event.dkim, event.dmarc), ("fail", "fail"))
        self.assertEqual(event.arc, "fail", "the body was changed behind the seal")
        second.bring(whole, path="bounces@example.org")
        self.assertEqual(second.of(MailChecked)[1].arc, "pass")

    def test_own_hosts(self) -> None:
        """Hosts that may relay, and those that are exempt, are not checked; submission is not, either."""
        node = self.receiver(relay_from=["192.0.2.0/24"])
        node.bring(MAIL)
        self.assertEqual((node.of(MailChecked), node.queue.mails[0].header[:9]), ([], b"Received:"))


class TemporaryTests(SynchronousTestCase):
    """When the DNS does not answer."""

    def test_once(self) -> None:
        """The mail is put off once; when it comes again it is taken, and the field says what could not be found out."""
        names = zone() | {f"_dmarc.{DOMAIN}": DNSError("no answer")}
        node = CheckedReceiver(names=names)
        self.assertTrue(node.bring(MAIL).startswith("451 4.4.3 DMARC of bank.example"))
        self.assertEqual((node.queue.mails, node.counted), ([], []))
        node.wait(300)
        self.assertTrue(node.bring(MAIL).startswith("250"))
        (mail,) = node.queue.mails
        self.assertEqual((told(mail)["dmarc"], mail.envelope.quarantine), ("temperror", ""))
        self.assertEqual([event.action for event in node.of(MailChecked)], ["refuse", "note"])
        node.wait(3600)
        self.assertTrue(node.bring(MAIL).startswith("451"), "the time is over: another mail")

    def test_no_need(self) -> None:
        """What could not be looked up does not matter where something else passes."""
        names = zone() | {f"{SELECTOR}._domainkey.{DOMAIN}": DNSError("no answer")}
        node = CheckedReceiver(names=names)
        self.assertTrue(node.bring(signed(), client=HOST).startswith("250"))
        self.assertEqual(told(node.queue.mails[0])["dkim"], "temperror")
        self.assertTrue(node.bring(signed()).startswith("451"))
        self.assertTrue(node.bring(signed()).startswith("250"))
        self.assertEqual(node.queue.mails[1].envelope.quarantine, "dmarc", "the domain asks to reject")

    def test_lame(self) -> None:
        """A name below the victim that the DNS has no answer for does not bring a forgery into the inbox (T24)."""
        names = zone() | {"lame.bank.example": DNSError("no answer")}
        node = CheckedReceiver(names=names)
        self.assertTrue(node.bring(MAIL, path="x@lame.bank.example").startswith("451"))
        self.assertTrue(node.bring(MAIL, path="x@lame.bank.example").startswith("250"))
        (mail,) = node.queue.mails
        self.assertEqual((told(mail)["dmarc"], mail.envelope.quarantine), ("temperror", "dmarc"))

    def test_meanwhile(self) -> None:
        """The DNS is asked while the mail comes in; its end waits for the answers."""
        node = CheckedReceiver()
        node.resolver.slow = lambda name: True
        peer = node.begin(signed(), client=HOST)
        self.assertEqual(peer.said(), "")
        asked = len(node.resolver.waiting)
        self.assertGreaterEqual(asked, 4, "iprev, SPF of both names, the key")
        while node.resolver.waiting:
            waiting, node.resolver.waiting = node.resolver.waiting, []
            for one in waiting:
                one.callback(None)
        self.assertTrue(peer.said().startswith("250"))
        self.assertEqual(told(node.queue.mails[0])["dmarc"], "pass")

    def test_too_long(self) -> None:
        """A DNS that never answers holds nobody up for longer than the settings say."""
        node = CheckedReceiver(policy_time=30)
        node.resolver.slow = lambda name: True
        peer = node.begin(signed(), client=HOST)
        node.wait(31)
        self.assertTrue(peer.said().startswith("451 4.4.3"))
        node.resolver.answer()
        self.assertTrue(node.bring(signed(), client=HOST).startswith("250"))
        self.assertEqual(told(node.queue.mails[0])["spf"], "pass")

    def test_slow_on_purpose(self) -> None:
        """Whoever makes the look-ups of his own names slow does not outlast the victim's DMARC record (T24)."""
        evil = ("in-addr.arpa", "attacker.test")
        other = signed(MAIL, key_of("attacker.test"))
        two = MAIL.replace(b"ann@bank.example", b"x@attacker.test, ann@bank.example")
        for mail in (MAIL, other, two):
            node = CheckedReceiver(policy_time=30)
            node.resolver.slow = lambda name: name.endswith(evil)
            peer = node.begin(mail, path="x@attacker.test")
            node.wait(31)
            self.assertIn(f"550 5.7.26 DMARC of {DOMAIN} asks to reject", peer.said())

    def test_slow_key(self) -> None:
        """A key that does not come in time spoils no other signature."""
        for keys in ((key_of("slow.example"), key_of()), (key_of(), key_of("slow.example"))):
            node = CheckedReceiver(policy_time=6)
            node.resolver.slow = lambda name: name.endswith("slow.example")
            peer = node.begin(signed(MAIL, *keys), path="list@lists.example")
            node.wait(7)
            self.assertTrue(peer.said().startswith("250"))
            self.assertEqual(told(node.queue.mails[0])["dmarc"], "pass")

    def test_broken_signatures(self) -> None:
        """Where looking at signatures breaks, nobody is refused for good for want of them."""

        async def broken(*arguments: object) -> None:
            raise RuntimeError("broken")

        self.patch(Signatures, "finish", broken)
        node = CheckedReceiver()
        self.assertTrue(node.bring(signed()).startswith("451"))
        self.assertTrue(node.bring(signed()).startswith("250"))
        self.assertEqual(told(node.queue.mails[0])["dmarc"], "temperror")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_given_up(self) -> None:
        """Nobody is asked any more for a mail that does not come."""
        node = CheckedReceiver()
        node.resolver.slow = lambda name: name == DOMAIN
        peer = node.session("MAIL FROM:<ann@bank.example>", client=HOST)
        (waiting,) = node.resolver.waiting
        peer.say("RSET")
        self.assertTrue(waiting.called, "it was cancelled")

    def test_given_up_at_the_end(self) -> None:
        """The same where the mail is refused for another reason, or is judged without an answer."""
        for node in (CheckedReceiver(message_size=100), CheckedReceiver(policy_time=6)):
            node.resolver.slow = lambda name: "_domainkey" in name or name == DOMAIN
            peer = node.begin(signed(), client=HOST)
            node.wait(7)
            self.assertRegex(peer.said(), "^(552|451)")
            self.assertTrue(all(one.called for one in node.resolver.waiting))

    def test_broken(self) -> None:
        """A check that breaks is a defect of ours: the mail is put off, never refused, and the log tells."""
        node = CheckedReceiver()

        def broken(name: str) -> bool:
            raise RuntimeError("broken")

        node.resolver.slow = broken
        self.assertTrue(node.bring(signed()).startswith("451"))
        self.assertTrue(self.flushLoggedErrors(RuntimeError))


class AnythingTests(SynchronousTestCase):
    """Content nobody expects."""

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=400))
    def test_never_breaks(self, octets: bytes) -> None:
        """Whatever the content is, it is answered, and never with a pass for a domain that did not sign it."""
        content = octets.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b"\r\n"
        node = CheckedReceiver()
        reply = node.bring(content)
        self.assertRegex(reply, r"^(250|550|552|501) ")
        for mail in node.queue.mails:
            self.assertNotEqual(told(mail)["dmarc"], "pass")

    def test_key_is_ed25519(self) -> None:
        """The tests sign with a key that is quickly made."""
        self.assertEqual(key_of().algorithm, "ed25519-sha256")
