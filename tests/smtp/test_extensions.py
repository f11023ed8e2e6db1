"""Tests of twisted_mail_node.smtp.extensions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.extensions import (
    NO_OFFERS,
    By,
    MailParameters,
    Offers,
    RcptParameters,
    UnknownParameterError,
    ehlo_lines,
    mail_parameters,
    rcpt_parameters,
)
from twisted_mail_node.smtp.grammar import GrammarError, parse_parameters

#: Everything that a session can be offered.
ALL = Offers(
    starttls=True,
    mechanisms=("SCRAM-SHA-256", "PLAIN"),
    require_tls=True,
    future_release=3600,
    deliver_by=True,
    priorities=True,
    xclient=True,
)


def mail(text: str, offers: Offers = NO_OFFERS) -> MailParameters:
    """The parameters of a MAIL command."""
    return mail_parameters(parse_parameters(text), offers)


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


class OfferedParametersTests(SynchronousTestCase):
    """MAIL's parameters that are known only where their extension is offered."""

    def malformed(self, keyword: str, *values: str) -> None:
        """None of these values is taken, and it is not because the keyword is unknown."""
        for value in values:
            with self.assertRaises(GrammarError) as caught:
                mail(f"{keyword}{value}", ALL)
            self.assertFalse(isinstance(caught.exception, UnknownParameterError), value)

    def test_needs(self) -> None:
        """Each needs its own offer, and no other makes it known."""
        for text, offers in {
            "AUTH=<>": ("mechanisms",),
            "REQUIRETLS": ("require_tls",),
            "HOLDFOR=1": ("future_release",),
            "HOLDUNTIL=2030-01-31T12:00:00Z": ("future_release",),
            "BY=1;R": ("deliver_by",),
            "MT-PRIORITY=3": ("priorities",),
        }.items():
            for field in Offers._fields:
                only = NO_OFFERS._replace(**{field: getattr(ALL, field)})
                if field in offers:
                    self.assertNotEqual(mail(text, only), MailParameters(), text)
                else:
                    self.assertRaises(UnknownParameterError, mail, text, only)

    def test_auth(self) -> None:
        """AUTH (RFC 4954 section 5): xtext, also before TLS; T14: no control character is hidden in it."""
        self.assertEqual(mail("AUTH=e+3Dmc2@example.com", ALL).auth, "e=mc2@example.com")
        self.assertEqual(mail("AUTH=<>", Offers(after_tls=True)).auth, "<>")
        self.malformed("AUTH", "", "=+", "=a+0Ab", "=a+0Db", "=a+00b", "=a+3db", "=" + "a" * 501)

    def test_require_tls(self) -> None:
        """REQUIRETLS (RFC 8689) takes no value."""
        self.assertTrue(mail("requiretls", ALL).require_tls)
        self.malformed("REQUIRETLS", "=1")

    def test_hold_for(self) -> None:
        """HOLDFOR (RFC 4865): seconds."""
        self.assertEqual(mail("HOLDFOR=00060", ALL).hold_for, 60)
        self.malformed("HOLDFOR", "", "=0", "=-1", "=1.5", "=x", "=1234567890", "=\u0661")

    def test_hold_until(self) -> None:
        """HOLDUNTIL (RFC 4865): a date and time of RFC 3339, in any zone."""
        expected = 1_896_091_200.0
        for text in (
            "2030-01-31T12:00:00Z",
            "2030-01-31t12:00:00.5z",
            "2030-01-31T14:00:00+02:00",
            "2030-01-31T07:30:00-04:30",
        ):
            self.assertEqual(mail(f"HOLDUNTIL={text}", ALL).hold_until, expected)
        self.malformed(
            "HOLDUNTIL", "", "=2030-01-31", "=2030-02-30T12:00:00Z", "=2030-01-31T25:00:00Z", "=2030-01-31T12:00:00",
            "=2030-01-31T12:00:00+99:99", "=2030-01-31T12:00Z", "=2030-01-31T12:00:61Z",
        )  # fmt: skip

    def test_one_hold(self) -> None:
        """HOLDFOR or HOLDUNTIL, not both (RFC 4865)."""
        self.malformed("HOLDFOR=60 HOLDUNTIL=2030-01-31T12:00:00Z", "")

    def test_by(self) -> None:
        """BY (RFC 2852): seconds, what to do then, and whether to trace. Return needs time; notify may be late."""
        self.assertEqual(mail("BY=120;R", ALL).by, By(120, "R"))
        self.assertEqual(mail("BY=+5;nT", ALL).by, By(5, "N", True))
        self.assertEqual(mail("BY=-60;N", ALL).by, By(-60, "N"))
        self.malformed("BY", "", "=", "=120", "=;R", "=120;X", "=0;R", "=-1;R", "=1234567890;R", "=120;RTT", "=120;R;T")

    def test_priority(self) -> None:
        """MT-PRIORITY (RFC 6710): from -9 to 9, written one way each."""
        self.assertEqual([mail(f"MT-PRIORITY={n}", ALL).priority for n in range(-9, 10)], list(range(-9, 10)))
        self.malformed("MT-PRIORITY", "", "=10", "=-0", "=+1", "=x", "=1.5", "=01")


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

    def test_offers(self) -> None:
        """What depends on listener, TLS and peer; FUTURERELEASE (RFC 4865) names seconds and the last moment."""
        lines = ehlo_lines(message_size=0, recipients=5, offers=ALL, now=1_896_091_200.0)
        self.assertEqual(
            set(lines) - set(ehlo_lines(message_size=0, recipients=5)),
            {
                "STARTTLS", "AUTH SCRAM-SHA-256 PLAIN", "REQUIRETLS", "FUTURERELEASE 3600 2030-01-31T13:00:00Z",
                "DELIVERBY", "MT-PRIORITY", "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT",
            },
        )  # fmt: skip

    def test_auth_after_tls(self) -> None:
        """AUTH is not announced where it comes only after STARTTLS."""
        lines = ehlo_lines(message_size=0, recipients=5, offers=Offers(starttls=True, after_tls=True))
        self.assertFalse([line for line in lines if line.startswith("AUTH")])
