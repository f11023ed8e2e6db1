"""Mail clients of others bring mail to a node over TLS, each by every way it knows; the run ends with a table of them.

``make interop`` runs this alone. What a client does not know is ``-`` in the table; what it knows must work.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import NamedTuple, cast

from twisted.trial.unittest import SkipTest

from tests.interop.clients import Client, Job, Outcome
from tests.interop.clients.programs import CLIENTS, MECHANISMS
from tests.interop.node import NodeTest
from tests.interop.secure import Authority, SecureNode
from tests.interop.wire import added_to

#: Octets of the large attachment before base64; a mail of 20 MB.
LARGE = 15_000_000
#: Wrong passwords are many here, and all from one address: nobody waits long for the answer.
TABLES = "[authentication]\nanswer_time = 0.1\ndelay_max = 0.1\n"

#: What users read.
WRONG_PASSWORD = ("5.7.8", "User name or password is wrong; the user name is the whole mail address")
WRONG_TOKEN = ("5.7.8", "The token is not good, or has expired; sign in again in your mail program")
UNKNOWN_RECIPIENT = ("5.1.1", "No such recipient here")
NOT_YOUR_ADDRESS = (
    "5.7.1",
    "<joe@here.test>: it is not an address of ann@here.test.",
    "Choose your own address in your mail program",
)

#: What is hard to carry even in a short mail.
BODY = "Hello.\n.\n..\n.a dot first\nFrom here on\n"
JOE = "joe@here.test"
_BEARERS = ("XOAUTH2", "OAUTHBEARER")
_table: dict[tuple[str, str], str] = {}


def letter(subject: str, body: str = BODY, sender: str = "ann") -> EmailMessage:
    """A mail that needs no repair."""
    message = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
    message["From"] = f"{sender}@here.test"
    message["To"] = "joe@here.test"
    message["Subject"] = subject
    message["Date"] = "Tue, 03 Mar 2026 10:11:12 +0000"
    message["Message-ID"] = f"<{subject.replace(' ', '.')}@here.test>"
    message.set_content(body, cte="8bit" if not body.isascii() else "7bit")
    return message


class ClientsTest(NodeTest):
    """One node, each client, each case: a test is made of every pair that the client knows."""

    def setUp(self) -> None:
        self.here = cast(SecureNode, self.shared(lambda: (SecureNode(tables=TABLES),))[0])

    # ---- cases -----------------------------------------------------------------------------------------------

    def brings(self, client: Client, job: Job, subject: str) -> None:
        """The client says that all went well, and the mail is there, signed in as it was asked for."""
        outcome = self.send(client, job)
        self.assertEqual(outcome.code, 0, outcome.said[-3000:])
        mail = self.here.wait_mail(job.recipients[0].partition("@")[0], having=f"Subject: {subject}\n".encode())
        if client.rewrites:
            body = job.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
            self.assertTrue(mail.endswith(b"\n\n" + body), mail[-1000:])
            trace = mail
        else:
            trace = added_to(mail, job.content)
        self.assertIn(b" with ESMTPSA ", trace.replace(b"\n\t", b" ").replace(b"\n", b" "))
        queue_id = trace.partition(b" id ")[2].split()[0].strip(b";").decode()
        accepted = self.here.wait_event("mail-accepted", queue_id=queue_id)
        self.assertEqual(accepted["account"], job.user)
        self.assertTrue(accepted["tls"].startswith("TLSv1.3 with "), accepted)
        signed_in = self.here.wait_event("signed-in", session=accepted["session"])
        self.assertEqual((signed_in["mechanism"], signed_in["account"]), (job.mechanism, job.user))

    def is_refused(self, client: Client, job: Job, code: int, *words: str) -> None:
        """The client ends with this code, and its user can read these words. Nothing arrived."""
        before = len(self.here.events("mail-accepted"))
        outcome = self.send(client, job)
        self.assertEqual(outcome.code, code, outcome.said[-3000:])
        for one in words:
            self.assertIn(one, outcome.words)
        self.assertEqual(len(self.here.events("mail-accepted")), before)

    def job(self, client: Client, content: bytes, *, tls: str = "starttls", mechanism: str = "") -> Job:
        """A job for a client: from ann, for joe."""
        mechanism = mechanism or client.mechanisms[0]
        job = Job(self.here.ports[tls], tls, self.here.authority.root, content, mechanism)
        if mechanism in _BEARERS:
            return replace(job, secret=self.here.tokens.token(job.user))
        if mechanism == "EXTERNAL":
            return replace(job, secret="", certificate=self.here.authority.client(job.user))
        return job

    def send(self, client: Client, job: Job) -> Outcome:
        """Run the client."""
        place = Path(self.mktemp()).resolve()
        place.mkdir(parents=True)
        return client.send(job, place)

    def starttls(self, client: Client) -> None:
        """It says STARTTLS, trusts the certificate, signs in, and the mail is there as it was sent."""
        subject = f"{client.name} starttls"
        self.brings(client, self.job(client, letter(subject).as_bytes()), subject)

    def implicit_tls(self, client: Client) -> None:
        """The same with TLS from the first octet (RFC 8314)."""
        subject = f"{client.name} implicit"
        self.brings(client, self.job(client, letter(subject).as_bytes(), tls="implicit"), subject)

    def eight_bit(self, client: Client) -> None:
        """Text in UTF-8 arrives as it is."""
        subject = f"{client.name} eight bit"
        content = letter(subject, "Grüße, ¡olé!\n. Ünder a dot\n" * 40).as_bytes()
        self.assertIn("Grüße".encode(), content)
        self.brings(client, self.job(client, content), subject)

    def large(self, client: Client) -> None:
        """A mail of 20 MB with an attachment."""
        subject = f"{client.name} large"
        message = letter(subject)
        message.add_attachment(bytes(range(250)) * (LARGE // 250), "application", "octet-stream", filename="large.bin")
        content = message.as_bytes()
        self.assertGreater(len(content), 20_000_000)
        self.brings(client, self.job(client, content, tls="implicit"), subject)
        for file in (self.here.maildir("joe") / "new").iterdir():
            if file.stat().st_size > LARGE:
                file.unlink()

    def wrong_password(self, client: Client) -> None:
        """A wrong password: the user reads that it is wrong."""
        job = replace(self.job(client, letter("never").as_bytes()), secret="not it")
        self.is_refused(client, job, client.codes.password, *WRONG_PASSWORD)

    def expired_token(self, client: Client) -> None:
        """A token that is too old."""
        mechanism = next(one for one in client.mechanisms if one in _BEARERS)
        job = replace(
            self.job(client, letter("never").as_bytes(), mechanism=mechanism),
            secret=self.here.tokens.token("ann@here.test", seconds=-600),
        )
        self.is_refused(client, job, client.codes.password, *WRONG_TOKEN)

    def refused_recipient(self, client: Client) -> None:
        """A recipient whom nobody knows here: the user reads which, and why."""
        job = replace(self.job(client, letter("never").as_bytes()), recipients=("nobody@here.test",))
        self.is_refused(client, job, client.codes.recipient, *UNKNOWN_RECIPIENT)

    def another_sender(self, client: Client) -> None:
        """ann writes with joe's reverse-path: the user reads whose address it is not."""
        job = replace(self.job(client, letter("never", sender="joe").as_bytes()), sender=JOE, author=JOE)
        self.is_refused(client, job, client.codes.sender, *NOT_YOUR_ADDRESS)

    def another_from(self, client: Client) -> None:
        """ann writes with joe's address in From."""
        job = replace(self.job(client, letter("never", sender="joe").as_bytes()), author=JOE)
        self.is_refused(client, job, client.codes.content, *NOT_YOUR_ADDRESS)

    def unknown_authority(self, client: Client) -> None:
        """A certificate that nobody trusts: the client says so, and gives no password away."""
        place = Path(self.mktemp())
        place.mkdir(parents=True)
        before = len(self.here.events("signed-in"))
        job = replace(self.job(client, letter("never").as_bytes()), root=Authority(place, "Another one").root.resolve())
        self.is_refused(client, job, client.codes.certificate, "certificate")
        self.assertEqual(len(self.here.events("signed-in")), before)


class Case(NamedTuple):
    """A case, and who knows it."""

    name: str
    run: Callable[[ClientsTest, Client], None]
    known: Callable[[Client], bool] = lambda client: True


def _signs_in(mechanism: str) -> Case:
    def run(test: ClientsTest, client: Client) -> None:
        for tls in ("starttls", "implicit"):
            subject = f"{client.name} {mechanism} {tls}"
            content = letter(subject).as_bytes()
            test.brings(client, test.job(client, content, tls=tls, mechanism=mechanism), subject)

    run.__doc__ = f"It signs in by {mechanism}, over STARTTLS and over implicit TLS."
    return Case(mechanism, run, lambda client: mechanism in client.mechanisms)


CASES = (
    Case("STARTTLS", ClientsTest.starttls),
    Case("implicit TLS", ClientsTest.implicit_tls),
    *map(_signs_in, MECHANISMS),
    Case("8-bit text", ClientsTest.eight_bit),
    Case("20 MB", ClientsTest.large),
    Case("wrong password", ClientsTest.wrong_password),
    Case("expired token", ClientsTest.expired_token, lambda client: bool({*_BEARERS} & {*client.mechanisms})),
    Case("refused recipient", ClientsTest.refused_recipient),
    Case("another's reverse-path", ClientsTest.another_sender),
    Case("another's From", ClientsTest.another_from),
    Case("unknown certificate", ClientsTest.unknown_authority),
)


def _make(client: Client, case: Case) -> None:
    """Give ClientsTest the test of a client in a case."""
    cell = case.name, client.name

    def test(self: ClientsTest) -> None:
        _table[cell] = "missing"
        if why := client.missing():
            raise SkipTest(why)
        _table[cell] = "FAILED"
        case.run(self, client)
        _table[cell] = "ok"

    words = f"{client.name} {case.name}".lower().replace("'s", "")
    test.__name__ = "test_" + "".join(letter if letter.isalnum() else "_" for letter in words)
    test.__doc__ = f"{client.name}: {case.run.__doc__}"
    setattr(ClientsTest, test.__name__, test)


for _client in CLIENTS:
    for _case in CASES:
        if _case.known(_client):
            _make(_client, _case)


def table() -> str:
    """What became of every client in every case; ``""`` when none was tried."""
    if not _table:
        return ""
    rows = [["", *(client.name for client in CLIENTS)]]
    for case in CASES:
        known = [_table.get((case.name, client.name), "") if case.known(client) else "-" for client in CLIENTS]
        rows.append([case.name, *known])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _print_table() -> None:
    if text := table():
        sys.stdout.write(f"\n{text}\n-: the client does not know it\n")
        sys.stdout.flush()


atexit.register(_print_table)
