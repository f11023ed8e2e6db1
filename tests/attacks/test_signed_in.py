"""Attacks by those who sign in, or try to (T22, T23, T29, T32): rights that outlast the account, addresses inside
addresses, names in many spellings, and work for us that costs the client nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.base import ReactorBase
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.wire import Sender, in_any_packets
from tests.directory.signing_in import ANN, DOMAINS, JOE, SigningInCase
from tests.inbound.receiving import TestReceiver
from tests.inbound.signing import base64, plain
from tests.policy.submitters import SubmissionReceiver
from twisted_mail_node.directory.account_keys import spell_scram
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.password_threads import PasswordThreads
from twisted_mail_node.directory.submitter import Submitter
from twisted_mail_node.events import MailRefused, SignedIn
from twisted_mail_node.inbound.repair import ENCODED_MAX, HeaderError, repaired
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.guessing import ACCOUNT_FREE, Guessing
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, Alias, Domain, Settings, SubmissionSettings
from twisted_mail_node.smtp.scram import keys_of

BODY = b"\r\n\r\ntext\r\n"
FILTER = "10.0.0.2"
#: Seconds of the reactor's thread that no client may take at once.
TURN = 0.05


class OwnAddressTests(SigningInCase):
    """T23: what is somebody's own, with a real directory."""

    def submitter(self, *accounts: Account) -> Submitter:
        """Joe has signed in."""
        self.directory = Directory(
            self.settings(*accounts or (Account(address=JOE),)).model_copy(
                update={
                    "domains": (Domain(name="example.org", subaddress_separator="+"), *DOMAINS[1:]),
                    "aliases": (Alias(address=Address("sales", "example.org"), to=(JOE,)),),
                }
            )
        )
        account = self.directory.account(JOE)
        assert account is not None
        return Submitter(account, self.directory, SubmissionSettings())

    def submit(self, submitter: Submitter, path: str, content: bytes, receiver: SubmissionReceiver) -> str:
        """The answers to one mail, all of them."""
        peer = receiver.session()
        peer.protocol.asked.submitter = submitter  # type: ignore[union-attr]
        said = peer.say(f"MAIL FROM:<{path}>", "RCPT TO:<x@elsewhere.example>", "DATA")
        if "354 " in said:
            peer.send(content + b".\r\n")
            said += peer.said()
        return said

    def test_gone(self) -> None:
        """An account that is disabled or removed while its session lasts sends no more mail: not with the null
        reverse-path either, nor one whose From we would add."""
        for accounts in ((Account(address=JOE, disabled=True),), ()):
            submitter = self.submitter()
            self.directory.reload(self.settings(*accounts))
            for path in ("joe@example.org", ""):
                for content in (b"From: joe@example.org" + BODY, b"Subject: x" + BODY):
                    receiver = SubmissionReceiver(SubmissionSettings(add_from=True))
                    said = self.submit(submitter, path, content, receiver)
                    self.assertTrue(said.startswith("550 5.7.1"), said)
                    self.assertEqual(receiver.queue.mails, [])

    def test_gone_in_a_transaction(self) -> None:
        """Nor does one that is disabled between MAIL and the end of the content."""
        for content in (b"From: joe@example.org" + BODY, b"Subject: x" + BODY):
            submitter = self.submitter()
            receiver = SubmissionReceiver(SubmissionSettings(add_from=True))
            peer = receiver.session()
            peer.protocol.asked.submitter = submitter  # type: ignore[union-attr]
            self.assertIn("354 ", peer.say("MAIL FROM:<>", "RCPT TO:<x@elsewhere.example>", "DATA"))
            self.directory.reload(self.settings(Account(address=JOE, disabled=True)))
            peer.send(content + b".\r\n")
            self.assertTrue(peer.said().startswith("550 5.7.1"))
            self.assertEqual(receiver.queue.mails, [])
            self.assertEqual(receiver.of(MailRefused)[0].reason, Reason.ACCOUNT_DISABLED)

    def test_inside_a_subaddress(self) -> None:
        """A subaddress of one's own is one's own, but none that holds another address within its quotes."""
        submitter = self.submitter()
        for local_part, code in {
            b"joe+shop": 250,
            b'"joe+my shop"': 250,
            b'"joe+ <ceo@bank.example>"': 550,
            b'"joe+,ceo"': 550,
            b'"joe+ceo@bank.example"': 550,
            b'"joe+;"': 550,
            b'"joe+(ceo)"': 550,
            b'"joe+\\" ceo"': 550,
            b'"joe+\\\\"': 550,
            b'"sales+<ceo>"': 550,
        }.items():
            for name in (b"From", b"From: joe@example.org\r\nSender", b"From: joe@example.org\r\nResent-From"):
                for form in (b"%b@example.org", b"Joe <%b@example.org>"):
                    receiver = SubmissionReceiver()
                    said = self.submit(submitter, "", name + b": " + form % local_part + BODY, receiver)
                    self.assertTrue(said.splitlines()[-1].startswith(str(code)), (name, form, local_part, said))


class NameTests(SigningInCase):
    """T22: one name in many spellings."""

    SPELLINGS = (
        "nobody@b\u00fccher.example", '"nobody"@b\u00fccher.example', '"\\n\\o\\body"@b\u00fccher.example',
        "NOBODY@xn--bcher-kva.example", "nobody@B\u00dcCHER.example", "Nobody@xn--BCHER-kva.example",
    )  # fmt: skip

    def settings(self, *accounts: Account, **more: Any) -> Settings:
        """With a domain that has more than one spelling."""
        made = super().settings(*accounts, **more)
        return made.model_copy(update={"domains": (Domain(name="b\u00fccher.example"), *DOMAINS)})

    def test_salts(self) -> None:
        """A name nobody has has one salt in all its spellings, as an account has: who asks for two learns nothing."""
        salt = b"0123456789abcdef"
        keys = {"SHA-256": keys_of("sesame", salt, 4096, "SHA-256")}
        joe = Account.model_validate({"address": "joe@b\u00fccher.example", "scram": spell_scram(salt, 4096, keys)})
        self.start(joe)
        for somebody in ("nobody", "joe"):
            spellings = [
                text.replace("nobody", somebody).replace("NOBODY", somebody.upper()) for text in self.SPELLINGS
            ]
            spellings = [text.replace("Nobody", "Joe" if somebody == "joe" else "Nobody") for text in spellings]
            spellings = [text.replace("\\n\\o\\body", "\\j\\oe" if somebody == "joe" else "\\n\\o\\body")
                         for text in spellings]  # fmt: skip
            found = {self.authentication.scram(text, "SHA-256") for text in [*spellings, somebody]}
            self.assertEqual(len(found), 1, (somebody, found))
        self.assertEqual(self.authentication.scram("joe", "SHA-256"), (salt, 4096))

    def test_shapes(self) -> None:
        """Accounts that came from elsewhere have other iteration counts and longer salts; names nobody has have them
        too, each always its own, so that neither tells who is here."""
        accounts = []
        for number, (iterations, size) in enumerate([(4096, 12), (4096, 12), (100_000, 16), (15_000, 24)]):
            salt = bytes([number]) * size
            scram = spell_scram(salt, iterations, {"SHA-256": (bytes(32), bytes(32))})
            accounts.append(Account.model_validate({"address": f"user{number}@example.org", "scram": scram}))
        self.start(*accounts)
        seen: dict[tuple[int, int], int] = {}
        for number in range(400):
            salt, iterations = self.authentication.scram(f"nobody{number}", "SHA-256")
            self.assertEqual(self.authentication.scram(f"Nobody{number}", "SHA-256"), (salt, iterations))
            seen[iterations, len(salt)] = seen.get((iterations, len(salt)), 0) + 1
        self.assertEqual(set(seen), {(4096, 12), (100_000, 16), (15_000, 24)})
        self.assertGreater(seen[4096, 12], 150)

    def test_guesses(self) -> None:
        """Guesses at one account from many places count for that account, however they spell its name."""
        guessing = Guessing(clock=Clock(), publish=self.events.append)
        for number in range(ACCOUNT_FREE + 4):
            spelling = self.SPELLINGS[number % len(self.SPELLINGS)]
            guessing.failed(f"198.51.100.{number}", spelling)
        for spelling in self.SPELLINGS:
            self.assertGreater(guessing.delay("203.0.113.9", spelling), 0, spelling)

    def test_one_place_in_memory(self) -> None:
        """Who has an account and signs in under many spellings of its name does not push out what is known of
        others."""
        guessing = Guessing(clock=Clock(), publish=self.events.append)
        for spelling in self.SPELLINGS:
            guessing.succeeded("198.51.100.1", spelling)
        self.assertEqual(len(guessing._known), 1)


class BehindTests(SynchronousTestCase):
    """T29: who speaks through a named peer."""

    @in_any_packets
    def test_certificate_of_the_peer(self, sender: Sender) -> None:
        """The certificate that a peer showed signs in none of the clients it speaks for."""
        receiver = TestReceiver(kind="submission", tls_mode="implicit", xclient_from=[FILTER])
        peer = receiver.connect(FILTER)
        peer.secure()
        sender.send(peer, b"EHLO filter.example.org\r\n")
        self.assertEqual(sender.send(peer, b"XCLIENT ADDR=192.0.2.77\r\nEHLO client\r\nAUTH EXTERNAL =\r\n")[-1], 504)
        self.assertEqual((receiver.authentication.logins, receiver.of(SignedIn)), ([], []))
        peer = receiver.connect(FILTER)
        peer.secure()
        self.assertEqual(sender.send(peer, b"EHLO filter.example.org\r\nAUTH EXTERNAL =\r\n")[-1], 235)

    @in_any_packets
    def test_starttls_behind_xclient(self, sender: Sender) -> None:
        """Nor when its handshake comes afterwards."""
        receiver = TestReceiver(kind="submission", tls_mode="starttls", xclient_from=[FILTER])
        peer = receiver.connect(FILTER)
        sender.send(peer, b"EHLO f\r\nXCLIENT ADDR=192.0.2.77\r\nEHLO client\r\nSTARTTLS\r\n")
        peer.secure()
        self.assertEqual(sender.send(peer, b"EHLO client\r\nAUTH EXTERNAL =\r\n")[-1], 504)
        self.assertEqual(receiver.of(SignedIn), [])

    @in_any_packets
    def test_rights_end(self, sender: Sender) -> None:
        """XCLIENT ends what a sign-in brought: the next client has to sign in itself."""
        receiver = TestReceiver(kind="submission", tls_mode="implicit", xclient_from=[FILTER])
        peer = receiver.connect(FILTER)
        peer.secure()
        self.assertEqual(sender.send(peer, b"EHLO f\r\n" + plain().encode() + b"\r\n")[-1], 235)
        behind = b"XCLIENT ADDR=192.0.2.77\r\nEHLO c\r\nMAIL FROM:<joe@example.org>\r\n"
        self.assertEqual(sender.send(peer, behind)[-1], 530)


class WorkTests(SynchronousTestCase):
    """T32: no reactor turn over 50 ms."""

    def quickest(self, work: Callable[[], None], times: int = 3) -> float:
        """Seconds; the least of some, for the machine may do other things."""
        taken = []
        for _ in range(times):
            begun = time.thread_time()
            work()
            taken.append(time.thread_time() - begun)
        return min(taken)

    def test_preparing(self) -> None:
        """Characters that SASLprep turns into eighteen, as many as a line of AUTH holds."""
        for character in ("\ufdfa", "\u3300", "\u0390", "\u1e9b\u0323"):
            for lengths in ((170, 340), (500, 1000), (1300, 1300)):
                name, password = (character * length for length in lengths)
                line = f"AUTH PLAIN {base64(f'{name}{chr(0)}{name}{chr(0)}{password}')}"

                def attempt(line: str = line) -> None:
                    peer = TestReceiver(kind="submission", tls_mode="implicit").connect()
                    peer.secure()
                    peer.say("EHLO client.example.net", line)

                self.assertLess(self.quickest(attempt), TURN / 3, (character, lengths))

    def test_repair(self) -> None:
        """Headers outside ASCII that are as dear to put right as they may be."""
        u = "\u00fc".encode()
        for beginning, piece in (
            (b"To: ", u + b" "),
            (b"To: ", b'"' + u + b'"<a@b>,'),
            (b"To: " + u, b"a.b."),
            (b"To: ", b"(" + u + b")"),
            (b"", b"To:" + u + b" <a@b>\r\n"),
            (b"Subject: ", u + b" x "),
            (b"", b"X:" + u + b"\r\n"),
        ):
            header = (beginning + piece * (ENCODED_MAX // len(piece) - 4)).removesuffix(b"\r\n") + b"\r\n\r\n"

            def work(header: bytes = header) -> None:
                try:
                    repaired(header, False)
                except HeaderError as error:
                    self.assertIn("cannot be put into ASCII", str(error))

            self.assertLess(self.quickest(work), TURN, header[:40])


class AbandonedTests(SigningInCase):
    """T33: sign-ins that nobody waits for any more."""

    async def test_not_done(self) -> None:
        """A comparison that was given up before a thread took it is not done, and counts until then: who comes and
        goes cannot heap up work."""
        self.start(Account(address=JOE), Account(address=ANN))
        threads = PasswordThreads(cast("ReactorBase", self.authentication._reactor), 1)
        self.addCleanup(threads.stop)
        done: list[str] = []
        first = threads.run(time.sleep, 0.2)
        given_up = threads.run(done.append, "given up")
        last: Deferred[None] = threads.run(done.append, "last")
        given_up.cancel()
        self.assertEqual(threads.waiting, 3)
        with self.assertRaises(CancelledError):
            await given_up
        await first
        await last
        self.assertEqual((done, threads.waiting), (["last"], 0))
