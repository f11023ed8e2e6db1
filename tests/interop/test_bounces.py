"""What becomes of mail that hosts refuse: addresses that nobody has, delays that are told, DSNs on their way."""

from __future__ import annotations

import importlib
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.interop.mails import plain, with_attachments
from tests.interop.node import Node, NodeTest, wait_for
from tests.interop.postfix import Postfix
from tests.interop.test_relaying import relay_to
from tests.interop.wire import ScriptedServer, send

NOBODY = "550 5.1.1 there is no such user here"


def parsed(mail: bytes) -> EmailMessage:
    """As Python's own parser reads it."""
    message = message_from_bytes(mail, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


class BounceTest(NodeTest):
    """A node, and a scripted server it relays to."""

    def relaying(self, answers: dict[str, str], tables: str = "") -> tuple[Node, ScriptedServer]:
        """Both."""
        server = ScriptedServer(answers)
        self.addCleanup(server.close)
        here = relay_to(server.port, tables=tables)
        self.addCleanup(here.close)
        return here.start(), server

    def test_suppressed(self) -> None:
        """An address refused twice is suppressed, over a restart: its mail comes back without a connection, and the DSN
        says why. Once an operator removes it, mail goes again."""
        here, server = self.relaying({"RCPT": NOBODY}, '[suppression]\nfailures = 2\nover = "1s"\n')

        def refused(subject: str) -> str:
            queue_id = send(here.port, plain(subject), ["Gone@dead.test"], sender="joe@here.test")
            here.wait_event("recipient-failed", queue_id=queue_id)
            return queue_id

        refused("first")
        self.assertIn("No address is suppressed.", here.command("suppress", "list"))
        time.sleep(1.1)  # ``over``
        refused("second")
        here.wait_event("address-suppressed")
        said = len(server.commands)

        def returned(subject: str) -> None:
            queue_id = refused(subject)
            here.wait_event("recipient-failed", queue_id=queue_id, reason="suppressed")
            report = parsed(here.wait_mail("joe", having=f"Subject: {subject}\n".encode()))
            text, status, _ = report.iter_parts()
            words = " ".join(text.get_content().split())
            self.assertIn("suppression list", words)
            self.assertIn("there is no such user here", words)
            parts: Any = status.get_payload()
            self.assertEqual((parts[1]["Action"], parts[1]["Status"]), ("failed", "5.1.1"))

        returned("third")
        self.assertIn("gone@dead.test", here.command("suppress", "list"))
        self.assertIn("it would be returned untried", here.command("route", "gone@dead.test"))
        self.assertEqual(here.stop(), 0)
        self.assertIn("gone@dead.test", here.command("suppress", "list"))
        here.start()
        returned("fourth")
        self.assertEqual([line for line in server.commands[said:] if line != "QUIT"], [])
        server.answer("RCPT", "250 ok")
        here.command("suppress", "remove", "gone@dead.test")
        queue_id = send(here.port, plain("fifth"), ["Gone@dead.test"], sender="joe@here.test")
        here.wait_event("recipient-relayed", queue_id=queue_id)
        (mail,) = server.mails
        self.assertIn(b"Subject: fifth", mail[2])
        self.assertIn("No address is suppressed.", here.command("suppress", "list"))

    def test_delay_told_once(self) -> None:
        """A delay is told once, as a delay; further attempts say nothing more, nor does the relaying in the end."""
        try:
            bounce: Any = importlib.import_module("flufl.bounce")
        except ImportError:
            raise SkipTest("flufl.bounce is not installed") from None
        tables = '[queue]\nretry = ["1s"]\ndelay_notices = ["2s"]\n'
        here, server = self.relaying({"END ": "451 4.3.0 not now"}, tables)
        queue_id = send(here.port, plain("patience"), ["demo@there.test"], sender="joe@here.test")
        notice = here.wait_mail("joe", having=b"delivery-status")
        temporary, permanent = bounce.all_failures(message_from_bytes(notice))
        self.assertEqual((temporary, permanent), ({b"demo@there.test"}, set()))
        self.assertIn(b"\nAction: delayed\n", notice)
        self.assertIn(b"\nWill-Retry-Until: ", notice)
        self.assertIn(b"451 4.3.0 not now", notice)
        tried = len(server.mails)
        wait_for(lambda: len(server.mails) >= tried + 2, "two more attempts")
        server.answer("END ", "250 ok")
        here.wait_event("recipient-relayed", queue_id=queue_id)
        here.wait_queue(0)
        self.assertEqual(here.mails("joe"), [notice])
        self.assertEqual(len(here.events("notification-sent")), 1)

    def test_through_postfix(self) -> None:
        """A DSN with all of an 8-bit mail in it that real Postfix relays arrives whole, and Python reads it."""
        there = self.node(domain="remote.test").start()
        postfix = Postfix(next_port=there.port)
        self.addCleanup(postfix.end)
        postfix.begin()
        back = f'[[route]]\ndomain = "remote.test"\nnext_hop = "[127.0.0.1]:{postfix.port}"\n'
        server = ScriptedServer({"EHLO": "250-plain.test\r\n250 8BITMIME", "RCPT": NOBODY})
        self.addCleanup(server.close)
        here = self.node(
            top='relay_from = ["127.0.0.0/8"]',
            tables=f'{back}[[route]]\ndomain = "*"\nnext_hop = "[127.0.0.1]:{server.port}"\n',
        ).start()
        header, _, body = with_attachments("papers", 100).partition(b"\r\n\r\n")
        content = header + b"\r\nX-Raw: Gr\xc3\xbc\xc3\x9fe\r\n\r\n" + body
        parameters = " BODY=8BITMIME RET=FULL ENVID=mine"
        queue_id = send(here.port, content, ["gone@dead.test"], sender="demo@remote.test", parameters=parameters)
        event = here.wait_event("notification-sent", queue_id=queue_id)
        here.wait_event("recipient-relayed", queue_id=event["dsn_queue_id"])
        try:
            mail = there.wait_mail("demo", having=b"delivery-status")
        except AssertionError:
            raise AssertionError(postfix.queue() + postfix.log()) from None
        self.assertIn(b"by mx.local.test (Postfix", mail)
        report = parsed(mail)
        self.assertEqual((report["Return-Path"], report["To"]), ("<>", "demo@remote.test"))
        self.assertEqual([part.defects for part in report.walk()], [[]] * len(list(report.walk())))
        text, status, returned = report.iter_parts()
        self.assertIn("there is no such user here", " ".join(text.get_content().split()))
        parts: Any = status.get_payload()
        self.assertEqual(parts[0]["Original-Envelope-Id"], "mine")
        self.assertEqual((parts[1]["Action"], parts[1]["Status"]), ("failed", "5.1.1"))
        self.assertEqual(returned.get_content_type(), "message/rfc822")
        self.assertIn(content.replace(b"\r\n", b"\n"), mail)
        papers = [part.get_filename() for part in report.walk() if part.get_filename()]
        self.assertEqual(papers, ["ö.bin", "lines.txt"])
