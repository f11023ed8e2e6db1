"""``mailnode explain-reply``."""

from __future__ import annotations

import json
import subprocess
import sys

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.admin.cli import main
from twisted_mail_node.message.cause import cause_named


def explain(*words: str, given: str | bytes = "") -> Result:
    """The command."""
    return CliRunner().invoke(main, ["explain-reply", *words], input=given)


class ExplainReplyTest(SynchronousTestCase):
    """It says what stands behind a reply."""

    def test_words(self) -> None:
        """Cause, kind, whether waiting helps, what it means, and what to do."""
        result = explain("550 5.1.1 <ann@example.net>: user unknown")
        cause = cause_named("no-such-address")
        assert cause is not None
        self.assertEqual(result.exit_code, 0)
        for text in ("no-such-address (kind: address)", "permanent", cause.title, cause.advice, cause.operator):
            self.assertIn(text, result.stdout)

    def test_temporary(self) -> None:
        """Of what goes by itself it says so."""
        self.assertIn("Waiting helps   yes", explain("450", "4.2.0", "Greylisted").stdout)

    def test_host(self) -> None:
        """The host's name counts."""
        text = "550 5.7.27 no"
        self.assertIn("sender-null-mx", explain(text).stdout)
        self.assertIn("spf-failed", explain(text, "--host", "mx.google.com").stdout)

    def test_json(self) -> None:
        """For programs."""
        answer = json.loads(explain("--json", "552 5.2.2 over quota").stdout)
        self.assertEqual(set(answer), {"code", "kind", "permanent", "title", "advice", "operator"})
        self.assertEqual((answer["code"], answer["kind"], answer["permanent"]), ("mailbox-full", "mailbox", False))

    def test_several_lines(self) -> None:
        """A reply of several lines comes through standard input, octets of any kind included."""
        self.assertIn(
            "gmail-reputation", explain("-", given="550-5.7.1 likely\n550 5.7.1 unsolicited - gsmtp\n").stdout
        )
        self.assertIn("refused", explain("-", given=b"550 \xff\x00").stdout)

    def test_nothing(self) -> None:
        """Without a reply it says how it is used."""
        for words in ((), ("",), ("  ",), ("-",)):
            with self.subTest(words=words):
                result = explain(*words)
                self.assertEqual(result.exit_code, 2)
                self.assertIn("Usage", result.stderr)

    def test_no_reply(self) -> None:
        """What is no reply is not called a refusal."""
        for text in ("hello", "999 x"):
            result = explain(text)
            self.assertEqual(result.exit_code, 2)
            self.assertIn("That is no reply", result.stderr)
        self.assertIn("mailbox-full", explain("mailbox full").stdout)
        self.assertIn("no-failure", explain("250 2.0.0 Ok: queued").stdout)

    def test_no_reactor(self) -> None:
        """The command does not load Twisted's reactor."""
        code = (
            "import sys\nfrom twisted_mail_node.admin.cli import main\n"
            "main(['explain-reply', '550 no'], standalone_mode=False)\n"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, "refused" in done.stdout), (0, True), done.stderr)
