"""AUTH (RFC 4954): the exchange of challenges and responses, and what its end means for the session.

Whoever is not let in is answered at a fixed moment, so that the time tells nothing (attack T22), and hears the same
for a wrong password as for a name nobody has. No password, token or response gets into an event, the log or an
exception of ours (attack T40).
"""

from __future__ import annotations

from math import ceil
from traceback import format_tb
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from twisted_mail_node.events import SignedIn, SignInFailed
from twisted_mail_node.inbound.replies import Ending
from twisted_mail_node.inbound.resting import rest
from twisted_mail_node.interfaces import IAuthentication, ISubmitter
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.mechanisms import MECHANISMS, exchange
from twisted_mail_node.smtp.occurrence import Auth, AuthResponse, Wrong
from twisted_mail_node.smtp.reply import Reply, printable
from twisted_mail_node.smtp.sasl import (
    CertificateLogin,
    Challenge,
    Login,
    LoginRefused,
    MalformedError,
    PasswordLogin,
    ScramKeys,
    TokenLogin,
)
from twisted_mail_node.waiting import within

if TYPE_CHECKING:
    from twisted_mail_node.inbound.connection import Connection

_log = Logger()

#: Seconds it may take to find out who somebody is; a hash takes 50 ms, an issuer of tokens far away some seconds.
LOGIN_TIME = 30.0
#: Wrong passwords in a session; then the client must connect again.
GUESSES = 5
#: Characters of a name that an event keeps.
NAME_MAX = 320

# RFC 4954 section 6.
SIGNED_IN = Reply.make(235, "2.7.0", "You have signed in")
WRONG = Reply.make(
    535, "5.7.8", "User name or password is wrong; the user name is the whole mail address", Reason.WRONG_PASSWORD
)
WRONG_TOKEN = Reply.make(
    535, "5.7.8", "The token is not good, or has expired; sign in again in your mail program", Reason.WRONG_PASSWORD
)
WRONG_CERTIFICATE = Reply.make(
    535, "5.7.8", "Your certificate names no account here; choose another in your mail program", Reason.WRONG_PASSWORD
)
DISABLED = Reply.make(525, "5.7.13", "This account is disabled; ask your postmaster", Reason.ACCOUNT_DISABLED)
UNCERTAIN = Reply.make(454, "4.7.0", "Passwords cannot be checked now; try again later", Reason.SIGN_IN_FAILED)
ENOUGH = Reply.make(421, "4.7.0", "Too many wrong passwords; goodbye", Reason.TOO_MANY_GUESSES)
_WRONG: dict[type[object], Reply] = {TokenLogin: WRONG_TOKEN, CertificateLogin: WRONG_CERTIFICATE}
_REFUSALS = {Reason.ACCOUNT_DISABLED: DISABLED, Reason.SIGN_IN_FAILED: UNCERTAIN}


class _Ended(Exception):
    """The exchange is over before anybody was asked who this is: this is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class _Refused(Exception):
    """Somebody was asked, and nobody is let in now: this is the answer. The moment to give it has come."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


async def authenticate(connection: Connection, event: Auth) -> None:
    """One exchange."""
    offered, checks = connection.wire.offers.mechanisms, connection.factory.authentication
    if checks is None or event.mechanism not in offered or event.mechanism not in MECHANISMS:
        words = f"Not a mechanism here; offered are {' '.join(offered)}"
        connection.refuse(Reply.make(504, "5.5.4", words, Reason.UNKNOWN_MECHANISM), "AUTH")
        return
    try:
        await _Attempt(connection, event, checks).run()
    except _Ended as ended:
        connection.wire.end_auth(ended.reply)
        connection.refuse(ended.reply, "AUTH")
    except _Refused as refused:
        connection.out.append(connection.wire.end_auth(refused.reply))
        if refused.reply.code in (WRONG.code, DISABLED.code):
            connection.guesses += 1
            if connection.guesses >= GUESSES:
                raise Ending(ENOUGH, Reason.TOO_MANY_GUESSES) from None
        connection.count_error()


class _Attempt:
    """One exchange under way.

    :ivar login: what the client showed, once it did.
    :ivar refusal: why nobody was let in; the mechanism may still have words of its own to say about it.
    """

    def __init__(self, connection: Connection, event: Auth, checks: IAuthentication) -> None:
        self.connection = connection
        self.mechanism = event.mechanism
        self.checks = checks
        self.exchange = exchange(
            event.mechanism, event.initial, connection.asked.tls, connection.wire.offers.mechanisms
        )
        self.login: Login | None = None
        self.refusal: Reply | None = None

    async def run(self) -> None:
        """Lead the mechanism to its end.

        :raises _Ended, _Refused: nobody signed in.
        """
        answer: Any = None
        try:
            while True:
                wanted = self.exchange.send(answer)
                if isinstance(wanted, Challenge):
                    answer = await self._response(wanted)
                elif isinstance(wanted, ScramKeys):
                    answer = self.checks.scram(wanted.name, wanted.hash_name)
                else:
                    self.login = wanted
                    answer = await self._check(wanted)
        except StopIteration as stop:
            self._end(stop.value)
        except MalformedError as error:
            raise _Ended(Reply.make(501, "5.5.2", str(error), Reason.SYNTAX)) from None
        except (Ending, _Ended, _Refused):
            raise
        except Exception as error:
            self._broke(error)
            raise _Refused(UNCERTAIN) from None
        finally:
            self.exchange.close()

    def _end(self, submitter: ISubmitter | None) -> None:
        """The mechanism has said all it has to say."""
        connection = self.connection
        if submitter is None or self.login is None:
            raise _Refused(self.refusal or WRONG)
        connection.factory.guessing.succeeded(connection.client, self.login.name)
        connection.forgive()
        connection.asked.submitter = submitter
        connection.out.append(connection.wire.end_auth(SIGNED_IN))
        connection.factory.publish(
            SignedIn(connection.session, connection.client, str(submitter.account), self.mechanism)
        )

    async def _response(self, challenge: Challenge) -> bytes:
        """What the client answers to a challenge."""
        connection = self.connection
        wire = connection.wire
        connection.out.append(wire.challenge(challenge.octets))
        while (event := wire.next_event()) is None:
            await connection.octets()
        if isinstance(event, Wrong):  # a line without an end
            wire.end_auth(event.reply)
            connection.refuse(event.reply, "AUTH")
            raise Ending(None, event.reply.reason or Reason.LINE_TOO_LONG)
        assert isinstance(event, AuthResponse)
        if event.refusal is not None:
            raise _Ended(event.refusal) if self.refusal is None else _Refused(self.refusal)
        return event.octets

    async def _check(self, login: Login) -> ISubmitter | None:
        """Ask who this is. Gives ``None`` when nobody is let in, at the moment to say so.

        :raises _Refused: the mechanism has no part in the answer.
        """
        connection, name = self.connection, login.name
        client, factory = connection.client, connection.factory
        guessing, clock = factory.guessing, factory.clock
        if guessing.is_refused(client):
            self._failed(name, Reason.TOO_MANY_GUESSES, 0.0)
            raise _Refused(_too_many(guessing.wait_of(client)))
        came = clock.seconds()
        delay = guessing.delay(client, name)
        if delay > 0:
            await rest(connection, delay)
        asked = clock.seconds()
        try:
            return await within(clock, LOGIN_TIME, self.checks.login(login))
        except LoginRefused as refused:
            self.refusal = _REFUSALS.get(refused.reason) or _WRONG.get(type(login), WRONG)
            reason, name = refused.reason, refused.name or name
            if self.refusal.code == WRONG.code:  # who knows the password of a disabled account does not guess
                guessing.failed(client, name)
        except Exception as error:
            self._broke(error)
            self.refusal, reason = UNCERTAIN, Reason.SIGN_IN_FAILED
        answered = _moment(asked, clock.seconds(), factory.answer_time)
        self._failed(name, reason, answered - came)
        await rest(connection, answered - clock.seconds())
        if self.refusal is UNCERTAIN:
            raise _Refused(UNCERTAIN)
        return None

    def _failed(self, name: str, reason: Reason, seconds: float) -> None:
        connection = self.connection
        connection.factory.publish(
            SignInFailed(
                connection.session, connection.client, printable(name)[:NAME_MAX], self.mechanism, reason,
                round(seconds, 3),
            )
        )  # fmt: skip

    def _broke(self, error: Exception) -> None:
        """Log where it broke. What the exception says is left out when it holds the secret itself."""
        said = str(error)
        if any(secret in said or repr(secret)[1:-1] in said for secret in _secrets(self.login)):
            said = "(what it says holds the password, and is not shown)"
        _log.error(
            "whether a password is right could not be found out: {kind}: {said}\n{where}",
            kind=type(error).__qualname__,
            said=said,
            where="".join(format_tb(error.__traceback__)),
        )


def _moment(asked: float, now: float, answer_time: float) -> float:
    """When a failure is answered: ``answer_time`` after it was asked about, or the next multiple of it."""
    return asked + answer_time * max(1, ceil((now - asked) / answer_time))


def _too_many(seconds: float) -> Reply:
    words = f"Too many wrong passwords from your address; wait {ceil(seconds)} seconds and try again"
    return Reply.make(454, "4.7.0", words, Reason.TOO_MANY_GUESSES)


def _secrets(login: Login | None) -> tuple[str, ...]:
    match login:
        case PasswordLogin():
            return (login.password,)
        case TokenLogin():
            return (login.token,)
        case CertificateLogin() | None:
            return ()
        case _:
            return (login.proof.hex(),)
