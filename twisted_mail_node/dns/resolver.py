"""Asks the DNS: a stub resolver with a cache, for servers that recurse for us (RFC 1034 section 5.3.1).

``StubResolver.query`` gives typed answers (``dns.answer``). A question goes to one server after the other, by UDP and
where the reply does not fit by TCP, until one gives an answer or the attempts are used up. Names in /etc/hosts and
``localhost`` are answered from there when A or AAAA is asked, as every other program on the machine does.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.dns.answer import Answer, DNSError
from twisted_mail_node.dns.cache import Cache, Outcome, with_bounds
from twisted_mail_node.dns.local import WatchedFile, local_answer, read_hosts, read_resolv_conf
from twisted_mail_node.dns.transport import (
    FalseRepliesError,
    Server,
    SocketTransport,
    Transport,
    TransportError,
)
from twisted_mail_node.dns.wire import (
    FORMERR,
    MAX_ALIASES,
    NOTIMP,
    RCODES,
    TYPES,
    MalformedError,
    Question,
    Reply,
    name_key,
    question_octets,
    read_reply,
)
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.waiting import DeadlineError, within

_log = Logger()

#: Questions on their way at once; each has a socket. More wait, within their own deadline.
MAX_QUESTIONS = 500
#: Seconds that the deadline of a question lies behind those of its attempts, whose words say more.
_MARGIN = 1.0


class _Asking:
    """A question on its way, and who waits for it."""

    __slots__ = ("waiters", "work")

    def __init__(self) -> None:
        self.waiters: list[Deferred[Outcome]] = []
        self.work: Deferred[None] | None = None


@implementer(IResolver)
class StubResolver:
    """Answers from the cache, from the machine's files, or from a DNS server.

    :param servers: addresses and ports; empty takes /etc/resolv.conf, read again when it changes.
    :param reactor: provides ``IReactorTime``, ``IReactorTCP`` and ``IReactorFDSet``.
    :param timeout: seconds one server has for one attempt.
    :param attempts: how often a question is sent in all. A question takes at most ``timeout * attempts`` seconds
        and ``_MARGIN``.
    :param cache_size: answers kept.
    :param transport: carries octets; by default real sockets.
    :param resolv_conf: path of a resolv.conf(5), used only without ``servers``.
    :param hosts: path of a hosts(5) file.
    :param trusted: the servers check signatures (DNSSEC), and nobody stands between us and them: their AD bit is
        believed. Otherwise no answer is authentic (RFC 4035 section 4.9.3).
    :raises ValueError: a server is not an IP address.
    """

    def __init__(
        self,
        *,
        servers: Sequence[tuple[str, int]] = (),
        reactor: Any,
        timeout: float = 5.0,
        attempts: int = 3,
        cache_size: int = 10000,
        transport: Transport | None = None,
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
        trusted: bool = False,
    ) -> None:
        self._trusted = trusted
        self._clock: IReactorTime = reactor
        self._timeout = timeout
        self._attempts = max(1, attempts)
        self._fixed_servers = tuple([Server(str(ip_address(host)), port) for host, port in servers])
        self._found_servers = WatchedFile(resolv_conf, read_resolv_conf, reactor)
        self._hosts = WatchedFile(hosts, read_hosts, reactor)
        self._transport = transport or SocketTransport(reactor, reactor)
        self._cache = Cache(cache_size, reactor)
        self._asking: dict[Question, _Asking] = {}
        self._places = DeferredSemaphore(MAX_QUESTIONS)
        self._first = 0

    async def query(self, name: str, rdtype: str) -> Answer:
        """See ``IResolver``. A name that cannot be in the DNS (a label of 64 octets, an empty one) does not exist.

        Cancelling stops the wait; the question itself is dropped when nobody waits for it any more.

        :raises DNSError: no usable answer; the sentence names the server and the question.
        :raises ValueError: ``rdtype`` is not one of ``IResolver.query``'s.
        """
        if rdtype not in TYPES:
            raise ValueError(f"{rdtype!r} is not a record type we ask for")
        key = name_key(name)
        if key is None:
            return Answer((), False, False, name.rstrip(".").lower(), 0)
        question = Question(key, rdtype)
        outcome = self._cache.get(question)
        if outcome is None:
            outcome = local_answer(question, self._hosts.value())
        if outcome is None:
            outcome = await self._join(question)
        if isinstance(outcome, str):
            raise DNSError(outcome)
        return outcome

    def stop(self) -> None:
        """End every question on its way; who waits gets a ``DNSError``."""
        for asking in list(self._asking.values()):
            if asking.work is not None:
                asking.work.cancel()

    def _join(self, question: Question) -> Deferred[Outcome]:
        """Wait for the question's outcome together with everyone who asks the same."""
        asking = self._asking.get(question)
        starts = asking is None
        if asking is None:
            asking = self._asking[question] = _Asking()
        waiter: Deferred[Outcome] = Deferred(partial(self._leave, question, asking))
        asking.waiters.append(waiter)
        if starts:
            asking.work = Deferred.fromCoroutine(self._work(question, asking))
            asking.work.addErrback(self._ended_badly, question, asking)
        return waiter

    def _leave(self, question: Question, asking: _Asking, waiter: Deferred[Outcome]) -> None:
        if waiter in asking.waiters:
            asking.waiters.remove(waiter)
        if not asking.waiters and self._asking.get(question) is asking:
            del self._asking[question]
            if asking.work is not None:
                asking.work.cancel()

    async def _work(self, question: Question, asking: _Asking) -> None:
        seconds = self._timeout * self._attempts + _MARGIN
        outcome: Outcome
        try:
            outcome = await within(self._clock, seconds, self._ask(question))
        except DNSError as error:
            outcome = str(error)
        except DeadlineError:
            outcome = f"no DNS server answered within {seconds:g} s when asked for {question}"
        self._cache.put(question, outcome)
        self._tell(question, asking, outcome)

    def _ended_badly(self, reason: Failure, question: Question, asking: _Asking) -> None:
        """Stopped, or broken by a mistake of ours: nothing is known, so nothing is kept."""
        if not isinstance(reason.value, CancelledError):
            _log.failure("asking the DNS broke", failure=reason)
        self._tell(question, asking, f"asking for {question} ended early: {reason.getErrorMessage() or 'cancelled'}")

    def _tell(self, question: Question, asking: _Asking, outcome: Outcome) -> None:
        if self._asking.get(question) is asking:
            del self._asking[question]
        waiters, asking.waiters = asking.waiters, []
        for waiter in waiters:
            waiter.callback(outcome)

    async def _ask(self, question: Question) -> Answer:
        """The answer, with CNAMEs followed over as many replies as it takes."""
        await self._places.acquire()
        try:
            reply, answer = await self._ask_servers(question)
            aliases = reply.aliases
            while reply.unfinished:
                if aliases > MAX_ALIASES:
                    raise DNSError(f"more than {MAX_ALIASES} CNAMEs stand behind {question}")
                reply, further = await self._ask_servers(Question(_next_name(answer, question), question.rdtype))
                aliases += max(1, reply.aliases)
                answer = further._replace(
                    authentic=answer.authentic and further.authentic, ttl=min(answer.ttl, further.ttl)
                )
            return with_bounds(answer if self._trusted else answer._replace(authentic=False))
        finally:
            self._places.release()

    async def _ask_servers(self, question: Question) -> tuple[Reply, Answer]:
        """The reply of the first server that has an answer; who answered last is asked first the next time."""
        servers = self._fixed_servers or self._found_servers.value()
        first = self._first % len(servers)
        order = deque(servers[first:] + servers[:first])
        trouble: dict[str, None] = {}
        for _ in range(self._attempts):
            if not order:
                break
            server = order.popleft()
            try:
                reply = await within(self._clock, self._timeout, self._ask_server(server, question))
            except DeadlineError:
                order.append(server)  # the datagram may have been lost
                trouble[f"{server} did not answer within {self._timeout:g} s"] = None
            except (TransportError, MalformedError) as error:
                trouble[f"{server} {error}"] = None
            else:
                if reply.answer is not None:
                    self._first = servers.index(server)
                    return reply, reply.answer
                trouble[f"{server} answered {_rcode_text(reply)}"] = None
            if self._first % len(servers) == servers.index(server):
                self._first = servers.index(server) + 1
        raise DNSError(f"{', '.join(trouble)} when asked for {question}")

    async def _ask_server(self, server: Server, question: Question) -> Reply:
        reply = await self._exchange(server, question, edns=True)
        if reply.rcode in (FORMERR, NOTIMP):
            # A server from before EDNS0 (RFC 6891 section 7).
            reply = await self._exchange(server, question, edns=False)
        return reply

    async def _exchange(self, server: Server, question: Question, edns: bool) -> Reply:
        identity = secrets.randbits(16)
        octets = question_octets(question, identity, edns)
        accept = partial(read_reply, identity=identity, question=question)
        try:
            reply = await self._transport.udp(server, octets, accept)
            if not reply.truncated:
                return reply
        except FalseRepliesError:
            pass
        return await self._transport.tcp(server, octets, accept, self._timeout)


def _next_name(answer: Answer, question: Question) -> str:
    key = name_key(answer.canonical)
    if key is None:
        raise DNSError(f"a CNAME behind {question} leads to no name: {answer.canonical[:80]}")
    return key


def _rcode_text(reply: Reply) -> str:
    if reply.truncated:
        return "with a truncated reply even by TCP"
    return RCODES[reply.rcode] if reply.rcode < len(RCODES) else f"code {reply.rcode}"
