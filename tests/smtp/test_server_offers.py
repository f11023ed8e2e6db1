"""Tests of twisted_mail_node.smtp.server: what is offered by listener, TLS and peer (STARTTLS, AUTH, XCLIENT)."""

from __future__ import annotations

from base64 import b64encode
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.extensions import NO_OFFERS, Offers
from twisted_mail_node.smtp.occurrence import (
    Auth,
    AuthResponse,
    Hello,
    MailFrom,
    Occurrence,
    Plain,
    StartTls,
    Wrong,
    XClient,
)
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.sasl import AUTH_LINE_MAX
from twisted_mail_node.smtp.server import (
    AUTH_CANCELLED,
    AUTH_TOO_LONG,
    BAD_BASE64,
    COMMAND_LINE_MAX,
    GARBAGE_MAX,
    ServerSession,
)

OK = Reply.make(250, "2.0.0", "OK")
SIGNED_IN = Reply.make(235, "2.7.0", "yes")
NO = Reply.make(535, "5.7.8", "no")
AUTH = Offers(mechanisms=("PLAIN", "LOGIN"))


def ready(offers: Offers = AUTH, *lines: bytes) -> ServerSession:
    """A session after EHLO and these commands, which were liked."""
    session = ServerSession(offers)
    for line in (b"EHLO c", *lines):
        session.receive(line + b"\r\n")
        assert isinstance(session.next_event(), Hello | MailFrom)
        session.answer(OK)
    return session


def event(session: ServerSession, line: bytes) -> Occurrence:
    """What one line means."""
    session.receive(line + b"\r\n")
    found = session.next_event()
    assert found is not None
    return found


def code(session: ServerSession, line: bytes) -> int:
    """The code of the refusal of a line."""
    found = event(session, line)
    assert isinstance(found, Wrong), found
    session.answer(found.reply)
    return found.reply.code


class StartTlsTests(SynchronousTestCase):
    """STARTTLS (RFC 3207)."""

    def test_where(self) -> None:
        """After EHLO or HELO where it is offered, in any case, with nothing behind it."""
        offers = Offers(starttls=True)
        for line in (b"STARTTLS", b"starttls", b"StartTLS"):
            self.assertEqual(event(ready(offers), line), StartTls())
        self.assertEqual(code(ready(offers), b"STARTTLS x"), 501)
        self.assertEqual(code(ready(NO_OFFERS), b"STARTTLS"), 502)
        self.assertEqual(code(ServerSession(offers), b"STARTTLS"), 503)
        self.assertEqual(code(ready(offers, b"MAIL FROM:<>"), b"STARTTLS"), 503)

    def test_restart(self) -> None:
        """Nothing is known any more: not EHLO, not who signed in, not what came and was not looked at."""
        session = ready(AUTH)
        event(session, b"AUTH PLAIN AAAA")
        session.end_auth(SIGNED_IN)
        session.receive(b"MAIL FROM:<boss@example.org>\r\nRCPT TO:<joe@exam")
        session.restart(Offers(mechanisms=("LOGIN",)))
        self.assertEqual((session.state, session.buffered, session.next_event()), ("start", 0, None))
        self.assertEqual(code(session, b"MAIL FROM:<>"), 503)
        self.assertEqual(event(session, b"EHLO c"), Hello("c", True))
        session.answer(OK)
        self.assertEqual(event(session, b"AUTH LOGIN"), Auth("LOGIN", None))

    def test_restart_in_an_exchange(self) -> None:
        """The next line is a command, and no response."""
        session = ready(AUTH)
        event(session, b"AUTH PLAIN")
        session.challenge(b"")
        session.restart(AUTH)
        self.assertEqual(event(session, b"NOOP"), Plain("NOOP", ""))

    def test_restart_in_garbage(self) -> None:
        """The rest of a long line is forgotten with it."""
        session = ready(AUTH)
        session.receive(b"x" * (COMMAND_LINE_MAX + 1))
        self.assertIsNone(session.next_event())
        session.restart(AUTH)
        self.assertEqual(event(session, b"NOOP"), Plain("NOOP", ""))


class AuthTests(SynchronousTestCase):
    """AUTH (RFC 4954 section 4)."""

    def test_command(self) -> None:
        """The mechanism in capitals; the initial response decoded, ``=`` for an empty one."""
        for line, found in {
            b"AUTH PLAIN": Auth("PLAIN", None),
            b"auth plain": Auth("PLAIN", None),
            b"AUTH PLAIN AGpvZQBzZWNyZXQ=": Auth("PLAIN", b"\0joe\0secret"),
            b"AUTH  PLAIN  AGpv ": Auth("PLAIN", b"\0jo"),
            b"AUTH LOGIN =": Auth("LOGIN", b""),
            b"AUTH X-MY_OWN-2": Auth("X-MY_OWN-2", None),
        }.items():
            self.assertEqual(event(ready(), line), found)

    def test_malformed(self) -> None:
        """No mechanism, a name that is none, two responses, no base64 (it is 501, and no exchange begins)."""
        for line in (
            b"AUTH", b"AUTH ", b"AUTH PLAIN AAAA AAAA", b"AUTH PL\xc3\x84IN", b"AUTH PLAIN!", b"AUTH " + b"A" * 21,
            b"AUTH PLAIN A", b"AUTH PLAIN AAA", b"AUTH PLAIN A=AA", b"AUTH PLAIN ==", b"AUTH PLAIN AAAA=",
            b"AUTH PLAIN AA-_", b"AUTH PLAIN AAAA====", b"AUTH PLAIN AAAA==",
            b"AUTH PLAIN \xc3\x84", b"AUTH PLAIN *", b"AUTH PLAIN =AAA", b"AUTH PLAIN AAA=BBB=",
        ):  # fmt: skip
            session = ready()
            self.assertEqual(code(session, line), 501, line)
            self.assertEqual(event(session, b"NOOP"), Plain("NOOP", ""))

    def test_where(self) -> None:
        """Not before EHLO, not in a transaction, not where it is not offered; before TLS it is 538."""
        self.assertEqual(code(ServerSession(AUTH), b"AUTH PLAIN"), 503)
        self.assertEqual(code(ready(AUTH, b"MAIL FROM:<>"), b"AUTH PLAIN"), 503)
        self.assertEqual(code(ready(NO_OFFERS), b"AUTH PLAIN"), 502)
        self.assertEqual(code(ready(Offers(starttls=True)), b"AUTH PLAIN"), 502)
        self.assertEqual(code(ready(Offers(starttls=True, after_tls=True)), b"AUTH PLAIN AAAA"), 538)

    def test_exchange(self) -> None:
        """Challenges go out as 334 with a space, responses come decoded, ``*`` cancels; then commands again."""
        session = ready()
        event(session, b"AUTH PLAIN")
        self.assertEqual(session.challenge(b""), b"334 \r\n")
        self.assertEqual(session.challenge(b"Password:"), b"334 UGFzc3dvcmQ6\r\n")
        self.assertEqual(session.challenge(b"\xff" * 100), b"334 " + b64encode(b"\xff" * 100) + b"\r\n")
        self.assertEqual(event(session, b"AGpvZQBzZWNyZXQ="), AuthResponse(b"\0joe\0secret"))
        self.assertEqual(event(session, b""), AuthResponse(b""))
        self.assertEqual(event(session, b"*"), AuthResponse(b"", AUTH_CANCELLED))
        for line in (b"=", b"QUIT", b"NOOP!", b" AAAA", b"AAAA ", b"AA=A", b"\xff", b"AA\nAA", b"AAA\r="):
            self.assertEqual(
                event(session, line), AuthResponse(b"", BAD_BASE64) if line != b"QUIT" else AuthResponse(b"A\x42\x13")
            )
        self.assertEqual(session.end_auth(NO), b"535 5.7.8 no\r\n")
        self.assertEqual(event(session, b"NOOP"), Plain("NOOP", ""))
        self.assertEqual(event(session, b"AUTH PLAIN"), Auth("PLAIN", None))

    def test_once(self) -> None:
        """After 235 every AUTH is 503, also after EHLO; after any other end it may come again."""
        session = ready()
        event(session, b"AUTH PLAIN AAAA")
        session.end_auth(NO)
        self.assertEqual(event(session, b"AUTH PLAIN AAAA"), Auth("PLAIN", b"\0\0\0"))
        session.end_auth(SIGNED_IN)
        self.assertEqual(code(session, b"AUTH PLAIN"), 503)
        event(session, b"EHLO c")
        session.answer(OK)
        self.assertEqual(code(session, b"AUTH PLAIN"), 503)

    def test_state(self) -> None:
        """No security layer begins, so EHLO still counts: MAIL may follow at once."""
        session = ready()
        event(session, b"AUTH PLAIN AAAA")
        session.end_auth(SIGNED_IN)
        self.assertIsInstance(event(session, b"MAIL FROM:<>"), MailFrom)

    def test_lengths(self) -> None:
        """AUTH and its responses may be longer than other commands, and not longer than that."""
        longest = b"A" * AUTH_LINE_MAX
        session = ready()
        self.assertIsInstance(event(session, b"AUTH PLAIN " + longest[:-12]), Auth)
        session.end_auth(NO)
        self.assertEqual(code(session, b"AUTH PLAIN " + longest), 500)
        self.assertEqual(code(ready(Offers(after_tls=True)), b"AUTH PLAIN " + longest[:-12]), 500)
        self.assertEqual(code(ready(), b"NOOP " + longest[:-12]), 500)
        event(session, b"AUTH PLAIN")
        session.challenge(b"")
        self.assertEqual(event(session, longest), AuthResponse(bytes(len(longest) // 4 * 3)))
        self.assertEqual(event(session, longest + b"AAAA"), AuthResponse(b"", AUTH_TOO_LONG))

    @given(st.integers(0, GARBAGE_MAX - AUTH_LINE_MAX - 8), st.lists(st.integers(0, GARBAGE_MAX), max_size=4))
    def test_lengths_cut(self, more: int, cuts: list[int]) -> None:
        """The same wherever the network cuts, and nothing of the long line is looked at afterwards."""
        session = ready()
        event(session, b"AUTH PLAIN")
        session.challenge(b"")
        octets = b"A" * (AUTH_LINE_MAX + 4 + more) + b"\r\nAAAA\r\n"
        found = []
        edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(octets)}), len(octets)]
        for start, end in pairwise(edges):
            session.receive(octets[start:end])
            while (one := session.next_event()) is not None:
                found.append(one)
        self.assertEqual(found, [AuthResponse(b"", AUTH_TOO_LONG), AuthResponse(b"\0\0\0")])

    def test_without_end(self) -> None:
        """A response without an end closes the session."""
        session = ready()
        event(session, b"AUTH PLAIN")
        session.challenge(b"")
        found = None
        for _ in range(100):
            session.receive(b"A" * 1024)
            found = found or session.next_event()
        assert isinstance(found, Wrong)
        self.assertEqual((found.reply.code, found.close), (421, True))

    def test_unknown_commands_after_auth(self) -> None:
        """T40: they may be a password that came where none was asked for, so they are not named."""
        session = ready(Offers(after_tls=True))
        self.assertEqual(event(session, b"AGpvZQ"), Wrong("AGPVZQ", event_of_unknown(b"AGpvZQ")))
        code(session, b"AUTH PLAIN")
        found = event(session, b"AGpvZQBzZWNyZXQ=")
        assert isinstance(found, Wrong)
        self.assertEqual((found.command, found.reply.reason), ("", Reason.UNKNOWN_COMMAND))


def event_of_unknown(line: bytes) -> Reply:
    """The reply to a command that nobody knows."""
    found = event(ready(), line)
    assert isinstance(found, Wrong)
    return found.reply


class XClientTests(SynchronousTestCase):
    """XCLIENT, for named peers."""

    def test_where(self) -> None:
        """Before EHLO and after it, not in a transaction, and only where it is offered."""
        offers = Offers(xclient=True)
        for session in (ServerSession(offers), ready(offers)):
            self.assertEqual(event(session, b"xclient ADDR=192.0.2.1 NAME=x"), XClient("ADDR=192.0.2.1 NAME=x"))
        self.assertEqual(code(ready(offers, b"MAIL FROM:<>"), b"XCLIENT ADDR=192.0.2.1"), 503)
        self.assertEqual(code(ready(NO_OFFERS), b"XCLIENT ADDR=192.0.2.1"), 502)
        self.assertEqual(code(ServerSession(), b"XCLIENT ADDR=192.0.2.1"), 502)


class PeekTests(SynchronousTestCase):
    """What stands before a session: a PROXY header, a handshake."""

    def test_peek(self) -> None:
        """What is looked at may be passed over, in part or whole; the rest is the session's."""
        session = ServerSession()
        session.receive(b"PROXY UNKNOWN\r\nNO")
        self.assertEqual((session.peek(), session.buffered), (b"PROXY UNKNOWN\r\nNO", 17))
        session.skip(15)
        self.assertEqual(session.peek(), b"NO")
        session.receive(b"OP\r\n")
        self.assertEqual(session.next_event(), Plain("NOOP", ""))
        self.assertEqual((session.peek(), session.buffered), (b"", 0))
