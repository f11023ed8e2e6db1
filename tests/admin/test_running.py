"""``mailnode run``: start, signals, end, and the sentences when it does not work."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.admin import running
from twisted_mail_node.admin.running import Run, command_line, welcome, why_not
from twisted_mail_node.settings import development


class Node:
    """Starts, stops and reloads as the test says."""

    def __init__(self) -> None:
        self.settings = development()
        self.done: list[str] = []
        self.start_error: Exception | None = None
        self.reload_result: Deferred[None] = succeed(None)

    def startService(self) -> Deferred[None]:
        self.done.append("start")
        return fail(self.start_error) if self.start_error else succeed(None)

    def stopService(self) -> Deferred[None]:
        self.done.append("stop")
        return succeed(None)

    def reload(self) -> Deferred[None]:
        self.done.append("reload")
        return self.reload_result


class Reactor(MemoryReactorClock):
    """Runs until it is told to stop; ``during`` happens while it runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.during: list[Any] = []
        self.before_shutdown: list[Any] = []

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Any, *args: Any, **kw: Any) -> None:
        assert (phase, eventType) == ("before", "shutdown")
        self.before_shutdown.append(callable)

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def run(self, installSignalHandlers: bool = True) -> None:
        for call, args, kwargs in self.whenRunningHooks:
            call(*args, **kwargs)
        for call in self.during:
            call()

    def stop(self) -> None:
        for call in self.before_shutdown:
            call()


class RunTest(SynchronousTestCase):
    """One life."""

    def setUp(self) -> None:
        self.signals: dict[int, Any] = {}
        self.exits: list[int] = []
        fake = SimpleNamespace(
            **{name: getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP")}, signal=self.signals.__setitem__
        )
        self.patch(running, "signal", fake)
        self.patch(running, "os", SimpleNamespace(_exit=self.exits.append))
        self.node = Node()
        self.reactor = Reactor()
        self.stdout, self.stderr = io.StringIO(), io.StringIO()

    def live(self, *during: Any) -> int:
        self.reactor.during = list(during)
        with contextlib.redirect_stdout(self.stdout), contextlib.redirect_stderr(self.stderr):
            return Run(self.node, self.reactor, ["hello"]).run()

    def send(self, number: int) -> Any:
        return lambda: self.signals[number](number, None)

    def test_life(self) -> None:
        """It starts, says hello on standard output, and SIGTERM stops it in order with code 0."""
        self.assertEqual(self.live(self.send(signal.SIGTERM)), 0)
        self.assertEqual((self.node.done, self.stdout.getvalue()), (["start", "stop"], "hello\n"))
        self.assertEqual(self.stderr.getvalue(), "")

    def test_interrupt(self) -> None:
        """Ctrl-C stops in order; a second one ends at once."""
        self.live(self.send(signal.SIGINT), self.send(signal.SIGINT))
        self.assertEqual((self.node.done, self.exits), (["start", "stop"], [130]))

    def test_term_twice(self) -> None:
        """A second SIGTERM changes nothing."""
        self.live(self.send(signal.SIGTERM), self.send(signal.SIGTERM))
        self.assertEqual((self.node.done, self.exits), (["start", "stop"], []))

    def test_hangup(self) -> None:
        """SIGHUP reads the settings anew; wrong ones, and even a break, leave the node running."""
        self.live(self.send(signal.SIGHUP))
        self.assertEqual(self.node.done, ["start", "reload"])
        self.node.reload_result = fail(ValueError("hostname holds 5"))
        self.live(self.send(signal.SIGHUP))
        self.node.reload_result = fail(KeyError("oh"))
        self.live(self.send(signal.SIGHUP))
        self.assertNotIn("stop", self.node.done)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_port_in_use(self) -> None:
        """A port in use is one sentence and code 1."""
        in_use = OSError(98, "Address already in use")
        self.node.start_error = CannotListenError("127.0.0.1", 2525, in_use)
        self.assertEqual(self.live(), 1)
        self.assertEqual(self.stdout.getvalue(), "")
        self.assertEqual(
            self.stderr.getvalue(),
            "mailnode: cannot listen on 127.0.0.1, port 2525: Address already in use."
            " Another program, perhaps another node, has it.\n",
        )

    def test_broken(self) -> None:
        """Whatever else goes wrong at the start ends it with code 1 and a traceback in the log."""
        self.node.start_error = KeyError("oh")
        self.assertEqual(self.live(), 1)
        self.assertIn("cannot start", self.stderr.getvalue())
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_log_on_stdout(self) -> None:
        """With the event log on standard output, hello goes to standard error."""
        log = self.node.settings.log.model_copy(update={"path": "-"})
        self.node.settings = self.node.settings.model_copy(update={"log": log})
        self.live()
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), ("", "hello\n"))


class WordsTest(SynchronousTestCase):
    """What is said."""

    def test_welcome(self) -> None:
        """Where it listens, where mail lands, and a line to paste."""
        text = "\n".join(welcome(development(), None, "1"))
        for words in (
            "127.0.0.1:2525 (mx, STARTTLS)", "127.0.0.1:2465 (submission, TLS from the first octet)",
            "/var/mail/{domain}/{local_part}", "demo@mail.test", "mailnode test\n",
        ):  # fmt: skip
            self.assertIn(words, text)
        self.assertEqual(command_line(), "mailnode")  # the tests run under another name
        self.assertIn("mailnode test -c 'a b.toml'", "\n".join(welcome(development(), Path("a b.toml"), "1")))

    def test_root(self) -> None:
        """Root is told what to do instead; others are not."""
        for user, told in ((0, True), (1000, False)):
            with mock.patch.object(os, "geteuid", return_value=user):
                text = "\n".join(welcome(development(), Path("n.toml"), "1"))
            self.assertEqual("twistd -n --uid mailnode --gid mailnode mailnode -c n.toml" in text, told)

    def test_how_to_type_it(self) -> None:
        """The line to paste works in another terminal: by path, as long as the shell does not find ``mailnode``."""
        place = Path(self.mktemp()).absolute()
        (place / "bin").mkdir(parents=True)
        started = place / "bin" / "mailnode"
        started.write_text("#!/bin/sh\n")
        started.chmod(0o755)
        with mock.patch.object(sys, "argv", [str(started), "run"]):
            with mock.patch.dict(os.environ, {"PATH": str(place)}):
                self.assertEqual(command_line(), str(started.relative_to(Path.cwd())))
                with mock.patch.object(Path, "cwd", return_value=Path("/elsewhere")):
                    self.assertEqual(command_line(), str(started))
            with mock.patch.dict(os.environ, {"PATH": str(place / "bin")}):
                self.assertEqual(command_line(), "mailnode")

    def test_low_port(self) -> None:
        """A port below 1024 without permission says what is missing."""
        error: Any = CannotListenError("", 25, OSError(13, "Permission denied"))
        self.assertIn("CAP_NET_BIND_SERVICE", why_not(Failure(error)))

    def test_odd_error(self) -> None:
        """An error without the usual parts is still a sentence."""
        error: Any = CannotListenError(None, "x", socket.gaierror("no such name"))
        self.assertIn("no such name", why_not(Failure(error)))
