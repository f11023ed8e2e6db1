"""Signing in at a next hop (RFC 4954): which mechanisms may be used there, and the exchange of one of them.

The password goes over TLS only, or to this machine; with PLAIN and LOGIN, which say it, only where the certificate is
verified or the rule says ``tls = "required"``. A host that does not take it is no reason to return mail: the mail
waits, and the operator reads why. No words of ours or of the host's hold the password (attack T40).
"""

from __future__ import annotations

from abc import ABC
from base64 import b64encode
from typing import NamedTuple, NoReturn

from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.outbound.job import Broken, short
from twisted_mail_node.outbound.need import Need
from twisted_mail_node.outbound.wire import QUIT_TIME, Wire
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.client import Offered
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.sasl import from_base64
from twisted_mail_node.smtp.sasl_client import COMMAND_MAX, Response, Salting, SignIn, WrongServer, begin, usable
from twisted_mail_node.smtp.scram import salted
from twisted_mail_node.threads import in_thread

#: Mechanisms tried on one connection: each may count as a wrong password there.
MECHANISMS_MAX = 3
#: Seconds for each reply to AUTH and to a response.
AUTH_TIME = 120.0


class Plan(NamedTuple):
    """What is asked of a connection beside its protection.

    :ivar lmtp: LMTP is spoken (RFC 2033), not SMTP.
    :ivar sign_in: with what we sign in; ``None``: we do not.
    :ivar is_local: the host is this machine, so a password may go there in the clear.
    :ivar source: the address we connect from, as statuses show it.
    """

    lmtp: bool = False
    sign_in: SignIn | None = None
    is_local: bool = False
    source: str = ""


#: SMTP, and nobody signs in.
NO_PLAN = Plan()

_WHY = "{rule} signs in at {host}, and a password goes over TLS only"


def secured(need: Need, sign_in: SignIn, host: str) -> Need:
    """The need of a host where a password is said: where TLS was a matter of chance, it is none any more."""
    if need.level == "opportunistic" or need.fell_back:
        return need._replace(level="required", why=_WHY.format(rule=sign_in.rule, host=host), fell_back=False)
    return need


class SigningIn(Wire, ABC):
    """A connection that can sign in."""

    async def _sign_in(
        self, sign_in: SignIn, offered: Offered, host: str, tls: ITlsSession | None, verified: bool, is_local: bool
    ) -> None:
        """Be signed in.

        :param verified: the host's certificate is good.
        :param is_local: the host is this machine.
        :raises Broken: we are not, or the connection is over.
        """
        rule = sign_in.rule
        if tls is None and not is_local:
            await self._not_signed_in(f'{_WHY.format(rule=rule, host=host)}; let the rule say tls = "verified"')
        binding = None if tls is None else tls.channel_binding()
        say_password = is_local or sign_in.unverified or verified
        mechanisms = usable(offered.auth, binding=binding is not None, say_password=say_password)
        if not mechanisms:
            await self._not_signed_in(_no_mechanism(sign_in, offered, host, tls))
        words, status = "", "4.7.8"
        for mechanism in mechanisms[:MECHANISMS_MAX]:
            try:
                reply, secrets = await self._exchange(mechanism, sign_in, offered, binding)
            except WrongServer as error:
                words = f"{host} was asked to sign {sign_in.username} in ({rule}, {mechanism}), and {error}"
                raise Broken(Reason.SIGN_IN_REFUSED, "4.7.0", short(words)) from error
            except ValueError as error:
                await self._not_signed_in(f"the name or password of {rule} cannot be said with {mechanism}: {error}")
            if reply.is_positive:
                return
            said = _without(short(str(reply)), secrets)
            words = f"{host} refused to sign {sign_in.username} in ({mechanism}): {said}; see {rule}"
            status = f"4{reply.enhanced[1:] or '.7.8'}"
            if reply.code == 535 or not reply.is_permanent:
                break  # the password is wrong, or cannot be looked up: another mechanism would not mend that
        await self._not_signed_in(words, status)

    async def _exchange(
        self, mechanism: str, sign_in: SignIn, offered: Offered, binding: bytes | None
    ) -> tuple[Reply, list[str]]:
        """One mechanism to its end; gives the reply, and what must not be seen of it.

        :raises WrongServer: the host is not to be believed. :raises ValueError: see ``begin``.
        """
        steps = begin(mechanism, sign_in, binding=binding, offered=offered.auth)
        secrets = [sign_in.password, b64encode(sign_in.password.encode()).decode()]
        response = next(steps)
        assert isinstance(response, Response)
        line, initial = f"AUTH {mechanism}", _line(response, secrets)
        if response.octets is None or len(line) + len(initial) + 3 > COMMAND_MAX:
            reply = await self._said(line, secrets)
            if response.octets is not None and reply.code == 334:
                reply = await self._said(initial, secrets)
        else:
            reply = await self._said(f"{line} {initial or '='}", secrets)  # RFC 4954 section 4: = is an empty one
        while reply.code == 334:
            challenge = from_base64("".join(reply.text).strip())
            if challenge is None and mechanism != "LOGIN":  # which has servers that ask in clear words
                raise WrongServer("its challenge is not base64")
            try:
                wanted = steps.send(challenge or b"")
                while isinstance(wanted, Salting):
                    wanted = steps.send(await in_thread(self._reactor, salted, sign_in.password, *wanted))
            except StopIteration:
                raise WrongServer(f"it asks for more than {mechanism} says") from None
            response = wanted
            line = _line(response, secrets)
            reply = await self._said(line, secrets)
        if reply.is_positive and not response.last:
            raise WrongServer("it said yes before it had shown that it knows the password")
        if not reply.is_positive and reply.code < 400:
            raise WrongServer(f"it answered with {reply.code}")
        return reply, secrets

    async def _said(self, line: str, secrets: list[str]) -> Reply:
        """:raises Broken: the connection is over; its words hold nothing of what the host repeats of ours."""
        try:
            self._ask(f"{line}\r\n".encode("ascii"))
            return await self._reply(AUTH_TIME)
        except Broken as broken:
            reply, reason, status = broken.reply, broken.reason, broken.status
            if reply is not None:
                reply = reply._replace(text=(_without(" ".join(reply.text), secrets),))
                raise Broken(reason, status, str(reply), reply) from None
            if reason is Reason.BAD_REPLY:  # which quotes a piece of it
                raise Broken(reason, status, "what the host said to AUTH is no reply") from None
            raise

    async def _not_signed_in(self, words: str, status: str = "4.7.0") -> NoReturn:
        """QUIT, and the mail waits. :raises Broken: always."""
        await self._goodbye(QUIT_TIME)
        raise Broken(Reason.SIGN_IN_REFUSED, status, words)


def _line(response: Response, secrets: list[str]) -> str:
    """A response in base64; it becomes one of what must not be seen."""
    line = b64encode(response.octets or b"").decode("ascii")
    if line:
        secrets.append(line)
    return line


def _no_mechanism(sign_in: SignIn, offered: Offered, host: str, tls: ITlsSession | None) -> str:
    rule = sign_in.rule
    if not offered.auth:
        return f"{host} does not offer AUTH, and {rule} has a name and a password for it"
    names = short(" ".join(offered.auth))
    if tls is not None and not sign_in.unverified and usable(offered.auth, binding=False, say_password=True):
        return (
            f"{host} wants the password itself ({names}), and its certificate is not good: "
            f'{short(tls.why)}; if it is to have it all the same, let {rule} say tls = "required"'
        )
    return f"{host} offers no mechanism that we know: {names}; see {rule}"


def _without(words: str, secrets: list[str]) -> str:
    """What a host said, without what it repeats of ours."""
    for secret in sorted(secrets, key=len, reverse=True):
        words = words.replace(secret, "***")
    return words
