"""``mailnode run``: the node in this process, from its start to its orderly end.

SIGTERM and Ctrl-C stop it in order (a second Ctrl-C ends it at once: what was accepted is in the spool), SIGHUP lets
it read its settings anew. What it says at its start goes to standard output, what goes wrong to standard error.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from twisted_mail_node.admin.demo import how_to_sign_in, with_password
from twisted_mail_node.admin.testmail import place_of

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings

_log = Logger()

#: Exit code of a process that ends by SIGINT at once, as shells know it.
INTERRUPTED = 128 + signal.SIGINT


def log_to_stderr() -> None:
    """Warnings, errors and tracebacks go to standard error; nothing else does."""
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=False)


def run_node(settings: Settings, config: Path | None, version: str) -> int:
    """Run until a signal or ``mailnode stop``; gives the exit code."""
    from twisted_mail_node.net.reactor import install

    reactor = install()
    from twisted_mail_node.service import MailNode

    log_to_stderr()
    try:
        if config is None:
            settings = with_password(settings)
        node: Any = MailNode(settings, reactor, config)
    except (ValueError, OSError) as error:
        click.echo(f"mailnode: the node cannot start: {error}", err=True)
        return 1
    return Run(node, reactor, list(welcome(settings, config, version))).run()


class Run:
    """One life of a node under a reactor.

    :param node: see ``service.MailNode``.
    :param welcome: lines printed once it listens.
    """

    def __init__(self, node: Any, reactor: Any, welcome: list[str]) -> None:
        self._node = node
        self._reactor = reactor
        self._welcome = welcome
        self._code = 0
        self._stopping = False

    def run(self) -> int:
        """Gives the exit code."""
        self._reactor.callWhenRunning(self._start)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop_node)
        self._reactor.run()
        return self._code

    def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.signalled)
        maybeDeferred(self._node.startService).addCallbacks(self._started, self._not_started)

    def _started(self, _: object) -> None:
        # with the event log on standard output, nothing else may stand there
        to_log = self._node.settings.log.path == "-"
        click.echo("\n".join(self._welcome), err=to_log)

    def _not_started(self, failure: Failure) -> None:
        click.echo(f"mailnode: {why_not(failure)}", err=True)
        self._code = 1
        self.stop()

    def signalled(self, number: int, frame: object = None) -> None:
        """A signal came: in whatever the process was doing, so the reactor is told and nothing else is done."""
        if number == signal.SIGHUP:
            self._reactor.callFromThread(self._reload)
        elif number == signal.SIGINT and self._stopping:
            os._exit(INTERRUPTED)
        else:
            self._reactor.callFromThread(self.stop)

    def stop(self) -> None:
        """End in order. May be called again."""
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def _stop_node(self) -> Deferred[Any]:
        self._stopping = True
        return maybeDeferred(self._node.stopService).addErrback(self._broken, "the node did not stop in order")

    def _reload(self) -> None:
        # what is wrong with the settings is said by the node itself: an event, and a line in this log
        maybeDeferred(self._node.reload).addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        if failure.check(ValueError, OSError):
            _log.error("the old settings stay in force: {words}", words=failure.getErrorMessage())
        else:
            self._broken(failure, "reading the settings anew broke; the old ones stay in force")

    def _broken(self, failure: Failure, words: str) -> None:
        _log.failure(words, failure)


def why_not(failure: Failure) -> str:
    """Why the node did not start, in a sentence; what nobody expected also leaves its traceback in the log."""
    error = failure.value
    if isinstance(error, CannotListenError):
        where = f"{error.interface or 'every address'}, port {error.port}"
        reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
        hint = {
            "Address already in use": " Another program, perhaps another node, has it.",
            "Permission denied": " Ports below 1024 need root or CAP_NET_BIND_SERVICE.",
        }.get(reason, "")
        return f"cannot listen on {where}: {reason}.{hint}"
    if not isinstance(error, ValueError | OSError):
        _log.failure("the node did not start", failure)
    return f"the node cannot start: {error}"


def command_line() -> str:
    """How a person types ``mailnode`` here, in another terminal: by its name where the shell finds it, else by the
    path it was started with."""
    started = Path(sys.argv[0])
    found = shutil.which("mailnode")
    if started.name != "mailnode" or (found and os.path.realpath(found) == os.path.realpath(started)):
        return "mailnode"
    absolute = Path(os.path.abspath(started))
    here = Path.cwd()
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))


def welcome(settings: Settings, config: Path | None, version: str) -> Iterator[str]:
    """What is said when the node listens."""
    option = f" -c {shlex.quote(str(config))}" if config is not None else ""
    yield f"mailnode {version}: {settings.hostname}"
    yield f"  settings   {config if config is not None else 'development settings; give your own with -c FILE'}"
    for listener in settings.listeners:
        place = place_of(listener.endpoint)
        where = f"{place.host}:{place.port}" if place is not None else listener.endpoint
        tls = {"starttls": ", STARTTLS", "implicit": ", TLS from the first octet", "none": ""}[listener.tls]
        yield f"  listens    {where} ({listener.kind}{tls})"
    for domain in settings.domains:
        where = f"goes to {domain.lmtp} (LMTP)" if domain.lmtp else f"lands in {settings.state_dir / domain.maildir}"
        yield f"  mail for   {domain.name} {where}"
    for account in settings.accounts[:1]:
        yield f"  write to   {account.address}"
    yield f"  event log  {'here' if settings.log.path == '-' else settings.state_dir / settings.log.path}"
    if os.geteuid() == 0:
        yield "  WARNING    runs as root, and need not. Give it a user of its own: User= of systemd, or let twistd give"
        yield f"             up root: twistd -n --uid mailnode --gid mailnode mailnode{option}"
    sending = list(how_to_sign_in(settings)) if config is None else []
    yield from sending[:1]
    yield f"Try it:      {command_line()} test{option}"
    yield from sending[1:]
    yield "Stop it:     Ctrl-C"
