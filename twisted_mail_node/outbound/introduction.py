"""How a connection begins: greeting, EHLO, and STARTTLS with EHLO again where the host's need says so (RFC 3207).

Nothing that was said before the handshake counts after it. A host that will not do is left with QUIT.
"""

from __future__ import annotations

from abc import ABC
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.outbound.dane import INVALID
from twisted_mail_node.outbound.job import Broken, Peer, short
from twisted_mail_node.outbound.judgement import NO_STARTTLS, Judgement, judge
from twisted_mail_node.outbound.need import Need
from twisted_mail_node.outbound.signing_in import Plan, SigningIn
from twisted_mail_node.outbound.wire import QUIT_TIME, Times
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.client import NOTHING_OFFERED, Offered
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.waiting import pause

#: Ends of a connection that STARTTLS is to blame for; 421 is one as long as there is no TLS.
_OF_TLS = (Reason.CONNECTION_LOST, Reason.REMOTE_TIMEOUT, Reason.BAD_REPLY)

_log = Logger()


class Tls(Protocol):
    """Gives our connections their TLS: ``net.tls_client.TlsClient``."""

    def secure(self, transport: Any, host: str, fresh: bool = False) -> ITlsSession:
        """Begin a handshake; its end is told by ``handshakeCompleted`` or ``connectionLost``.

        :param host: the name (or IP address) that the certificate must be for, to be verified.
        :param fresh: no earlier session is resumed, so that the host shows its certificates.
        """


@implementer(IHandshakeListener)
class Introduction(SigningIn, ABC):
    """A connection as far as the first mail.

    :param hostname: what we say in EHLO.
    :param host: name of the host, which its certificate is compared with.
    :param address: its address and port, for statuses.
    :param plan: what else is asked of the connection.
    :ivar peer: the same with what TLS came to.
    :ivar tls: the TLS session, once its handshake is completed.
    :ivar judgement: what TLS came to; ``None``: nothing yet, or it was not tried.
    """

    def __init__(
        self, *, hostname: str, reactor: Any, host: str, address: str, need: Need, tls: Tls | None, times: Times,
        plan: Plan,
    ) -> None:  # fmt: skip
        super().__init__(reactor)
        self.host = host
        self.address = address
        self.peer = Peer(host, address, fell_back=need.fell_back, source=plan.source)
        self.tls: ITlsSession | None = None
        self.judgement: Judgement | None = None
        self._hostname = hostname
        self._need = need
        self._starter = tls
        self._times = times
        self._plan = plan
        self._offered = NOTHING_OFFERED
        self._securing = False  # STARTTLS was said, and the EHLO after it is not answered yet
        self._completed = False
        self._closing: Any = None

    # what Twisted calls

    def handshakeCompleted(self) -> None:
        self._completed = True
        self._led.resume()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._securing:
            self._break(Broken(Reason.CONNECTION_LOST, "4.4.2", _what_broke(reason)))
        else:
            super().connectionLost(reason)

    @property
    def verified(self) -> bool:
        """The host's certificate is good: by an authority, or by DANE."""
        return self.tls is not None and self.judgement is not None and self.judgement.verified

    # the story

    async def _introduce(self) -> None:
        """Be ready for mail. :raises Broken: the host will not be, or not in the way it must."""
        greeting = await self._reply(self._times.greeting)
        if not greeting.is_positive:
            raise _not_ready(greeting, self._plan.lmtp)
        offered = await self._hello()
        if self._need.level != "none":
            offered = await self._protected(offered)
        if offered.require_tls and not (self._need.sure and self.verified):
            # RFC 8689 section 2: REQUIRETLS is said only to a host whose certificate and name are beyond doubt.
            offered = offered._replace(require_tls=False)
        plan = self._plan
        if plan.sign_in is not None:
            await self._sign_in(plan.sign_in, offered, self.host, self.tls, self.verified, plan.is_local)
        if plan.lmtp:
            # Delivery is told of by us (RFC 3461 section 5.2.3), and by nobody else once more.
            offered = offered._replace(dsn=False)
        self._offered = offered

    async def _hello(self) -> Offered:
        """EHLO, or HELO for a host that knows no better (RFC 5321 section 3.2); LHLO in LMTP (RFC 2033)."""
        self._ask(client.ehlo(self._hostname, "LHLO" if self._plan.lmtp else "EHLO"))
        reply = await self._reply(self._times.greeting)
        if reply.is_positive:
            return client.parse_ehlo(reply)
        if reply.is_permanent and not self._securing and not self._plan.lmtp:
            self._ask(client.ehlo(self._hostname, "HELO"))
            reply = await self._reply(self._times.greeting)
        if not reply.is_positive:
            raise _not_ready(reply, self._plan.lmtp)
        return NOTHING_OFFERED

    async def _protected(self, offered: Offered) -> Offered:
        """STARTTLS as the need asks for it; gives what the host offers from then on."""
        need, host = self._need, self.host
        if not offered.starttls or self._starter is None:
            if self._starter is not None:
                self.judgement = Judgement("", f"{host} offers no STARTTLS", result=NO_STARTTLS)
            if not need.must:
                return offered
            words = f"{host} offers no STARTTLS" if self._starter else "this node has no TLS for its way out"
            await self._decline("4.7.4", words, final=True)
        self._securing = True
        try:
            judgement = await self._handshake(self._starter)
            offered = await self._hello()
        except Broken as broken:
            if broken.reason not in _OF_TLS and (self.tls is not None or broken.reason is not Reason.REMOTE_DELAYED):
                raise
            if self.tls is None or broken.reason is not Reason.REMOTE_TIMEOUT:
                # a lost connection may be the host's verdict on the handshake (TLS 1.3); its silence afterwards is none
                self.judgement = Judgement("", short(broken.words), result=INVALID)
            raise self._unfit("4.7.5", f"TLS with {host} came to nothing: {short(broken.words)}") from broken
        self._securing = False
        if judgement.problem:
            problem = short(judgement.problem)
            await self._decline("4.7.5", f"the certificate of {host} is not good: {problem}", final=True)
        if need.require_tls and not offered.require_tls:
            await self._decline("4.7.30", f"{host} does not offer REQUIRETLS", final=True)
        return offered

    async def _handshake(self, starter: Tls) -> Judgement:
        times, need = self._times, self._need
        self._ask(client.STARTTLS)
        reply = await self._reply(times.handshake)
        if reply.code != 220:
            # In the clear, another connection begins anew: some hosts are confused after a STARTTLS that failed.
            words = f"{self.host} answered STARTTLS with {short(str(reply))}"
            self.judgement = Judgement("", words, result=NO_STARTTLS)
            await self._decline("4.7.4", words, final=reply.is_permanent)
        if self._replies or self._reader.is_amid:
            # What stands behind the 220 may be from anyone, and would be taken for the host's (attack T09).
            raise Broken(Reason.BAD_REPLY, "4.5.0", "octets came behind its reply to STARTTLS")
        self._arm(times.handshake)
        try:
            if need.tlsa is None or not need.tlsa.records:
                # Also where no record can be used: what is verified then is the host, not what it is an alias of.
                session = starter.secure(self.transport, self.host)
            else:
                # RFC 7672 section 8.1: SNI is the TLSA base domain. The chain must be seen, so nothing is resumed.
                session = starter.secure(self.transport, need.tlsa.base, fresh=True)
        except Exception as error:
            _log.failure("TLS with {host} could not be begun", host=self.host)
            raise self._unfit("4.7.5", f"TLS with {self.host} could not be begun: {error}") from error
        while not self._completed:
            if self._broken is not None:
                raise self._broken
            if self._late:
                raise Broken(Reason.REMOTE_TIMEOUT, "4.4.2", f"no handshake within {times.handshake:g} s")
            await pause
        self.tls = session
        self.judgement = judgement = judge(need, session, self.host, datetime.now(UTC))
        self.peer = self.peer._replace(tls=f"{session}, {short(judgement.words)}")
        return judgement

    async def _decline(self, status: str, words: str, final: bool) -> NoReturn:
        """The host will not do: QUIT (RFC 3207 section 4.1), so that another one may be asked.

        :param final: for a mail with REQUIRETLS; all others may wait until the host or the route has changed.
        :raises Broken: always.
        """
        unfit = self._unfit(status, words, final)
        await self._goodbye(self._times.quit)
        raise unfit

    def _unfit(self, status: str, words: str, final: bool = False) -> Broken:
        need = self._need
        if need.require_tls and final:
            # RFC 8689 section 4.2.1: 5.7.10, or 5.7.30 when only REQUIRETLS is missing. The pool makes it a failure.
            reason, status = Reason.REQUIRETLS, "4.7.30" if status == "4.7.30" else "4.7.10"
        else:
            reason = need.reason
        return Broken(reason, status, f"{words}; {need.why}" if need.why else words)

    def _close(self, at_once: bool) -> None:
        super()._close(at_once)
        if not at_once and self.tls is not None:
            # TLS ends with an exchange (RFC 8446 section 6.1); a host that takes no part in it is not waited for.
            self._closing = self._reactor.callLater(QUIT_TIME, self._cut)

    def _cut(self) -> None:
        self._closing = None
        self._wire().abortConnection()


def _not_ready(reply: Reply, is_store: bool) -> Broken:
    # A message store is the operator's own: when it refuses us, it will be mended, and mail does not go back for that.
    if reply.is_permanent and not is_store:
        return Broken(Reason.HOST_REFUSED, reply.enhanced or "5.3.2", str(reply), reply)
    return Broken(Reason.HOST_NOT_READY, f"4{reply.enhanced[1:] or '.3.2'}", str(reply), reply)


def _what_broke(reason: Failure) -> str:
    """Why a connection ended in a handshake. OpenSSL's errors are lists of (library, function, reason)."""
    error = reason.value
    if isinstance(error, ConnectionDone | ConnectionLost):
        return "the host closed the connection"
    found = error.args[0] if error is not None and error.args else None
    if isinstance(found, list):
        words = "; ".join(str(entry[-1]) for entry in found if isinstance(entry, tuple) and entry)
    else:
        words = reason.getErrorMessage()
    return short(words or type(error).__name__)
