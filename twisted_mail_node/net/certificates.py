"""The node's certificates: read at the start, looked at every few seconds, and given to connections (``ITlsServer``).

What can no longer be read stays in use as it was: a renewal that is half written, a key that others may read, a file
that is gone. The operator sees a CertificatesRefused event; clients see nothing. Without any certificate the node
makes one itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.events import CertificatesLoaded, CertificatesRefused, Publish
from twisted_mail_node.interfaces import ITlsServer, ITlsSession
from twisted_mail_node.net.tls import TlsSession, begin
from twisted_mail_node.net.tls_contexts import Contexts, use_pair
from twisted_mail_node.net.tls_files import Pair, Source, read_pair, sources, state_of
from twisted_mail_node.net.tls_selfsigned import FILE_NAME, self_signed
from twisted_mail_node.settings import Settings
from twisted_mail_node.threads import in_thread

#: Seconds between two looks at the files.
LOOK = 5.0
#: Seconds after which contexts are made anew: the keys of their tickets are theirs, and should not live long.
TICKET_KEYS_TIME = 86400.0
#: Seconds before a certificate expires that the daily look begins to warn of it.
EXPIRES_SOON = 7 * 86400.0
#: Characters an event keeps of what is wrong.
WORDS_MAX = 2000

_log = Logger()


class _Read(NamedTuple):
    """What was found on the disk.

    :ivar state: what the files looked like before they were read.
    :ivar own: the one certificate is ours, self-signed.
    :ivar problems: what could not be read, or is incomplete.
    :ivar fatal: the first of these that the settings name.
    """

    state: tuple[object, ...]
    pairs: tuple[Pair, ...]
    own: bool
    contexts: Contexts | None
    problems: tuple[str, ...]
    fatal: str


@implementer(ITlsServer)
class Certificates:
    """See above.

    :param settings: which certificates there are, and what clients may speak.
    :param reactor: clock, and threads for reading.
    :param publish: takes events.
    """

    def __init__(self, settings: Settings, reactor: Any, publish: Publish) -> None:
        self._settings = settings
        self._reactor = reactor
        self._publish = publish
        self._pairs: tuple[Pair, ...] = ()
        self._contexts: Contexts | None = None
        self._state: tuple[object, ...] | None = None
        self._made = 0.0
        self._suspected = self._refused = ""
        self._lock = DeferredLock()
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    # ---- ITlsServer ------------------------------------------------------------------------------------------

    def secure(self, transport: Any, first: bytes = b"") -> ITlsSession:
        """See ITlsServer."""
        contexts = self._contexts
        assert contexts is not None, "start comes first"
        return TlsSession(begin(transport, contexts.connection, first), asked=contexts.asks)

    # ---- start, stop, anew -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Read everything, and look for changes from now on. Blocks on the disk for some milliseconds.

        :raises ValueError: what the settings name cannot be used; the sentence says why.
        """
        found = _read(self._settings, (), self._reactor.seconds())
        if found.fatal:
            raise ValueError(found.fatal)
        self._take(found, True)
        self._refuse("; ".join(found.problems))
        self._looking.start(LOOK, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def reload(self, settings: Settings) -> Deferred[None]:
        """Take other settings, and read everything anew; fires when that is done. Running sessions stay as they are."""
        self._settings = settings
        self._state = None
        return self._lock.run(self._read_anew, True)

    def _look(self) -> Deferred[None]:
        if self._lock.locked:
            return succeed(None)
        return self._lock.run(self._read_anew, False)

    def _read_anew(self, at_once: bool) -> Deferred[None]:
        """Look at the files, and read them if they changed.

        :param at_once: complain at once. Else only when the next look finds the same: files are replaced one by one.
        """
        settings, now = self._settings, self._reactor.seconds()
        old = now - self._made > TICKET_KEYS_TIME

        def found(result: _Read | None) -> None:
            if result is None or settings is not self._settings:
                return
            words = result.fatal if result.contexts is None else "; ".join(result.problems)
            if result.contexts is not None:
                self._take(result, at_once or old, old)
            if at_once or words == self._suspected:
                self._refuse(words)
            self._suspected = words
            if words:
                self._state = None

        state = None if old or at_once else self._state
        reading = in_thread(self._reactor, _read_changed, settings, self._pairs, now, state).addCallback(found)
        return reading.addErrback(lambda failure: _log.failure("certificates could not be looked at", failure))

    def _take(self, found: _Read, anyway: bool, daily: bool = False) -> None:
        """Use these from now on.

        :param anyway: take the contexts also when the certificates are the same.
        :param daily: tell again what the operator should know.
        """
        now = self._reactor.seconds()
        changed = [pair.chain for pair in found.pairs] != [pair.chain for pair in self._pairs]
        self._state = found.state
        if changed or anyway:
            self._contexts, self._pairs, self._made = found.contexts, found.pairs, now
        words = _warning(found, now)
        if not changed and not (daily and words and not found.own):
            return
        names = tuple(dict.fromkeys(name for pair in found.pairs for name in pair.names))
        if words:
            _log.warn("{words}", words=words)
        self._publish(CertificatesLoaded(names, min(pair.expires for pair in found.pairs), words))

    def _refuse(self, words: str) -> None:
        if words and words != self._refused:
            _log.warn("{words}", words=words)
            self._publish(CertificatesRefused(words[:WORDS_MAX]))
        self._refused = words


def _warning(found: _Read, now: float) -> str:
    """What the operator should know about certificates that are in use."""
    if found.own:
        return (
            f"there is no certificate yet: a self-signed one is used ({found.pairs[0].source.chain}), which other "
            "servers take and mail clients warn of. Put one with its key into the tls directory, or name it in a "
            "[[certificate]]"
        )
    said = []
    for pair in found.pairs:
        day = f"{datetime.fromtimestamp(pair.expires, UTC):%Y-%m-%d}"
        if pair.expires <= now:
            said.append(f"{pair.source.chain} expired on {day}: renew it; it is used all the same")
        elif pair.expires <= now + EXPIRES_SOON:
            said.append(f"{pair.source.chain} expires on {day}: renew it")
    return "; ".join(said)[:WORDS_MAX]


def _client_ca(settings: Settings) -> Path | None:
    path = settings.tls.client_ca
    return settings.state_dir / path if path else None


def _read_changed(
    settings: Settings, before: tuple[Pair, ...], now: float, state: tuple[object, ...] | None
) -> _Read | None:
    """What lies on the disk now; ``None`` when it looks as it did. For a thread."""
    if state is not None and state == _state(settings, sources(settings)[0]):
        return None
    return _read(settings, before, now)


def _state(settings: Settings, found: list[Source]) -> tuple[object, ...]:
    paths = [path for source in found for path in dict.fromkeys((source.chain, source.key))]
    paths.append(settings.state_dir / settings.tls.directory)
    client_ca = _client_ca(settings)
    return state_of(iter([*paths, client_ca] if client_ca else paths))


def _read(settings: Settings, before: tuple[Pair, ...], now: float) -> _Read:
    """Read every pair; one that cannot be read stays as it was ``before``."""

    def rank(pair: Pair) -> tuple[bool, bool, float]:
        """Which comes before another for the same name: the settings' as they stand there, then what lasts longer."""
        named = pair.source.named
        return pair.expires <= now, not named, 0.0 if named else -pair.expires

    known = {pair.source: pair for pair in before}
    wanted, problems = sources(settings)
    state = _state(settings, wanted)
    pairs: list[Pair] = []
    fatal = ""
    for source in wanted:
        try:
            pair = read_pair(source)
            use_pair(SSL.Context(SSL.TLS_SERVER_METHOD), pair)  # OpenSSL has an opinion of its own
        except ValueError as error:
            problems.append(str(error))
            if source.named:
                fatal = fatal or str(error)
            if source in known:
                pairs.append(known[source])
        else:
            pairs.append(pair)
    left = [pair for pair in before if pair.source.chain != settings.state_dir / FILE_NAME]
    own = False
    if not pairs and left:
        pairs = left
        problems.append("no certificate is left where they were; those of before stay in use until the next start")
    contexts = None
    try:
        if not pairs:
            pairs, own = [self_signed(settings, now)], True
        pairs.sort(key=rank)
        contexts = Contexts(pairs, settings.hostname, settings.tls, _client_ca(settings))
    except ValueError as error:
        fatal = str(error)
        problems.append(fatal)
    return _Read(state, tuple(pairs), own, contexts, tuple(problems), fatal)
