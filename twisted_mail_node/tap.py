"""``twistd mailnode -c settings.toml``: the options of the twistd plug-in and the service it runs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings

#: The environment variable that stands for ``--config``, as for ``mailnode``.
VARIABLE = "MAILNODE_SETTINGS"
#: Exit code when the settings are wrong.
WRONG_SETTINGS = 2
#: Exit code when the node cannot start.
FAILED = 1

_log = Logger()


class Options(usage.Options):
    """The options of ``twistd mailnode``."""

    synopsis = "[-c settings.toml]"
    longdesc = "A mail node: receives, keeps, delivers and relays mail."
    optParameters = [
        [
            "config",
            "c",
            None,
            f"The settings (TOML). Default: ${VARIABLE}, else the development settings with their state in ./var.",
        ],
    ]


def makeService(options: Options) -> Daemon:
    """The node of the settings that ``options`` name.

    :raises SystemExit: (code 2) the settings are wrong; every problem was printed.
    """
    from twisted.internet import reactor

    from twisted_mail_node.service import MailNode

    given = options["config"] or os.environ.get(VARIABLE)
    # twistd changes its directory when it becomes a daemon
    path = Path(given).absolute() if given else None
    return Daemon(MailNode(read_settings(path), reactor, path), reactor)


class Daemon(Service):
    """The node under twistd, which takes no notice of a start that failed: here the process ends then, with code 1.

    The listeners' places are taken before twistd gives up root (``--uid``, ``--gid``), and nothing else is: spool, log
    and all other files are opened and made by the user it becomes. SIGHUP lets the node read its settings anew.
    """

    name = "mailnode"

    def __init__(self, node: Any, reactor: Any) -> None:
        self.node = node
        self._reactor = reactor
        self._failed: Failure | None = None

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self.node.bind()
        except Exception:
            self._failed = Failure()  # told once the reactor runs and can be stopped

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        if self._failed is not None:
            self._not_started(self._failed)
            return
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._reload))
        maybeDeferred(self.node.startService).addErrback(self._not_started)

    def stopService(self) -> Deferred[None]:
        """Stop the node in order."""
        super().stopService()  # type: ignore[no-untyped-call]
        return maybeDeferred(self.node.stopService)

    def _not_started(self, failure: Failure) -> None:
        from twisted_mail_node.admin.running import why_not

        # twistd puts this into its log, too
        print(f"mailnode: {why_not(failure)}", file=sys.stderr)
        atexit.register(os._exit, FAILED)  # twistd itself has no other way to end with a code
        self._reactor.stop()

    def _reload(self) -> None:
        maybeDeferred(self.node.reload).addErrback(self._not_reloaded)

    def _not_reloaded(self, failure: Failure) -> None:
        if failure.check(ValueError, OSError):
            _log.error("the old settings stay in force: {words}", words=failure.getErrorMessage())
        else:
            _log.failure("reading the settings anew broke; the old ones stay in force", failure)


def read_settings(path: Path | None) -> Settings:
    """The settings of a file, or the development settings.

    :raises SystemExit: (code 2) they are wrong; every problem was printed.
    """
    from twisted_mail_node import settings

    if path is None:
        return settings.development()
    try:
        return settings.load(path)
    except settings.SettingsError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"the settings {path} cannot be read: {error.strerror or error}")


def _refuse(words: str) -> NoReturn:
    print(words, file=sys.stderr)
    raise SystemExit(WRONG_SETTINGS)
