"""Tests of twisted_mail_node.smtp.extensions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.extensions import (
    MailParameters,
    RcptParameters,
    UnknownParameterError,
    ehlo_lines,
    mail_parameters,
    rcpt_parameters,
)
from twisted_mail_node.smtp.grammar import GrammarError, parse_parameters


def mail(text: str) -> MailParameters:
    """The parameters of a MAIL command."""
    return mail_parameters(parse_parameters(text))


def rcpt(text: str) -> RcptParameters:
    """The parameters of a RCPT command."""
    return rcpt_parameters(parse_parameters(text))


class MailParametersTests(SynchronousTestCase):
    """MAIL's parameters."""

    def test_all(self) -> None:
        """All at once, in any case."""
        self.assertEqual(
            mail("size=100 Body=8bitmime smtputf8 RET=hdrs ENVID=a+2Bb"),
            MailParameters(100, "8BITMIME", True, "HDRS", "a+b"),
        )
        self.assertEqual(mail(""), MailParameters())

    def test_body(self) -> None:
        """7BIT, 8BITMIME (RFC 6152) and BINARYMIME (RFC 3030)."""
        for body in ("7BIT", "8BITMIME", "BINARYMIME"):
            self.assertEqual(mail(f"BODY={body}").body, body)

    def test_malformed(self) -> None:
        """A value that is missing, wrong, or where none may be."""
        for text in ("SIZE", "SIZE=x", "BODY", "BODY=9BIT", "SMTPUTF8=1", "RET", "RET=ALL", "ENVID", "ENVID=+",
                     "ENVID=" + "e" * 101, "ENVID=a+0Ab"):  # fmt: skip
            with self.assertRaises(GrammarError) as caught:
                mail(text)
            self.assertNotIsInstance(caught.exception, UnknownParameterError)

    def test_unknown(self) -> None:
        """What no extension of ours knows; RCPT's parameters are not MAIL's (RFC 5321 section 4.1.1.11)."""
        for text in ("AUTH=<>", "XFOO", "NOTIFY=NEVER", "MT-PRIORITY=3", "REQUIRETLS"):
            self.assertRaises(UnknownParameterError, mail, text)


class RcptParametersTests(SynchronousTestCase):
    """RCPT's parameters."""

    def test_notify(self) -> None:
        """NEVER alone, or any of the others (RFC 3461 section 4.1)."""
        self.assertEqual(rcpt("NOTIFY=never").notify, ("NEVER",))
        self.assertEqual(rcpt("NOTIFY=success,DELAY,failure,success").notify, ("SUCCESS", "DELAY", "FAILURE"))
        for text in ("NOTIFY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=ALWAYS", "NOTIFY=SUCCESS,", "NOTIFY=,"):
            self.assertRaises(GrammarError, rcpt, text)

    def test_orcpt(self) -> None:
        """ORCPT is kept decoded (RFC 3461 section 4.2)."""
        self.assertEqual(rcpt("ORCPT=rfc822;a+2Bb@example.org"), RcptParameters((), "rfc822;a+b@example.org"))
        for text in ("ORCPT", "ORCPT=joe@example.org", "ORCPT=rfc822;a+00b"):
            self.assertRaises(GrammarError, rcpt, text)

    def test_unknown(self) -> None:
        """MAIL's parameters are not RCPT's."""
        for text in ("SIZE=1", "BODY=7BIT", "SMTPUTF8", "XFOO=1"):
            self.assertRaises(UnknownParameterError, rcpt, text)


class EhloLinesTests(SynchronousTestCase):
    """What EHLO announces."""

    def test_all(self) -> None:
        """Every extension by its keyword; LIMITS (RFC 9422) names what is bounded."""
        self.assertEqual(
            ehlo_lines(message_size=1000, recipients=5),
            ("PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES", "DSN",
             "LIMITS RCPTMAX=5", "HELP"),
        )  # fmt: skip

    def test_bounds(self) -> None:
        """No bound of size is a SIZE without a number (RFC 1870); MAILMAX stands only where mails are bounded."""
        lines = ehlo_lines(message_size=0, recipients=5, mails=3)
        self.assertIn("SIZE", lines)
        self.assertIn("LIMITS RCPTMAX=5 MAILMAX=3", lines)
