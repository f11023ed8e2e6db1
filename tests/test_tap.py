"""The twistd plug-in and the .tac files."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.application.service import Application, IServiceMaker, MultiService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node import service, tap

TAC = Path(__file__).parents[1] / "tac"


class Node(MultiService):
    """Stands for service.MailNode."""

    def __init__(self, settings: Any, reactor: Any, path: Path | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.node_settings = settings
        self.path = path


class TapTest(SynchronousTestCase):
    """twistd mailnode."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.config = Path(place.name) / "settings.toml"
        self.config.write_text('hostname = "mx.here.example"\n[[listener]]\nkind = "mx"\nendpoint = "tcp:2525"\n')
        self.patch(service, "MailNode", Node)
        environment = {key: value for key, value in os.environ.items() if key != tap.VARIABLE}
        self.enterContext(mock.patch.dict(os.environ, environment, clear=True))

    def make(self, *arguments: str) -> Node:
        options: Any = tap.Options()  # type: ignore[no-untyped-call]
        options.parseOptions(arguments)
        node = tap.makeService(options).node
        assert isinstance(node, Node)
        return node

    def test_file(self) -> None:
        """-c names the settings; the node knows their absolute path, for SIGHUP."""
        node = self.make("-c", os.path.relpath(self.config))
        self.assertEqual(node.node_settings.hostname, "mx.here.example")
        assert node.path is not None
        self.assertTrue(node.path.is_absolute())

    def test_variable(self) -> None:
        """$MAILNODE_SETTINGS stands for -c."""
        os.environ[tap.VARIABLE] = str(self.config)
        self.assertEqual(self.make().path, self.config)

    def test_development(self) -> None:
        """Without a file the development settings run."""
        node = self.make()
        self.assertEqual((node.path, len(node.node_settings.accounts)), (None, 1))

    def test_wrong(self) -> None:
        """Wrong settings, and none, are sentences and exit code 2."""
        self.config.write_text("hostname = 5\nlistner = 1\n")
        for path, words in ((self.config, "listner"), (self.config.parent / "none.toml", "none.toml")):
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                error = self.assertRaises(SystemExit, self.make, "-c", str(path))
            self.assertEqual(error.code, 2)
            self.assertIn(words, stderr.getvalue())

    def test_plugin(self) -> None:
        """twistd finds the plug-in."""
        from twisted import plugins

        self.patch(plugins, "__path__", [*plugins.__path__, str(TAC.parent / "twisted" / "plugins")])
        maker: Any
        (maker,) = {one for one in getPlugins(IServiceMaker) if one.tapname == "mailnode"}
        self.assertEqual(maker.module, "twisted_mail_node.tap")

    def test_tac(self) -> None:
        """The .tac files are short and make an application."""
        for path in sorted(TAC.glob("*.tac")):
            names: dict[str, Any] = {}
            exec(compile(path.read_text(), str(path), "exec"), names)  # noqa: S102
            self.assertIsInstance(names["application"], type(Application("x")))
            self.assertLessEqual(len(path.read_text().splitlines()), 15)
        self.assertEqual(len(list(TAC.glob("*.tac"))), 3)

    def test_submission_tac(self) -> None:
        """submission.tac has submission listeners only, with TLS."""
        names: dict[str, Any] = {}
        exec(compile((TAC / "submission.tac").read_text(), "submission.tac", "exec"), names)  # noqa: S102
        listeners = names["settings"].listeners
        self.assertEqual([(one.kind, one.tls) for one in listeners],
                         [("submission", "starttls"), ("submission", "implicit")])  # fmt: skip


class DaemonTest(SynchronousTestCase):
    """The node under twistd."""

    def setUp(self) -> None:
        self.done: list[str] = []
        self.result: Deferred[None] = succeed(None)
        self.not_bound: Exception | None = None
        self.patch(tap, "signal", SimpleNamespace(SIGHUP=1, signal=lambda number, call: self.done.append("signal")))
        self.patch(tap, "atexit", SimpleNamespace(register=lambda call, code: self.done.append(f"code {code}")))
        node = SimpleNamespace(
            bind=self.bind,
            startService=lambda: self.note("start"),
            stopService=lambda: self.note("stop"),
            reload=lambda: self.note("reload"),
        )
        reactor = SimpleNamespace(callWhenRunning=lambda call: call(), stop=lambda: self.done.append("reactor"))
        self.daemon = tap.Daemon(node, reactor)

    def note(self, what: str) -> Deferred[None]:
        self.done.append(what)
        return self.result

    def bind(self) -> None:
        self.done.append("bind")
        if self.not_bound is not None:
            raise self.not_bound

    def test_life(self) -> None:
        """It starts once the reactor runs, and stopping waits for the node."""
        self.daemon.startService()
        self.successResultOf(self.daemon.stopService())
        self.assertEqual(self.done, ["signal", "start", "stop"])

    def test_privileged(self) -> None:
        """As root it takes the places of its listeners, and nothing more."""
        self.daemon.privilegedStartService()
        self.assertEqual(self.done, ["bind"])
        self.daemon.startService()
        self.assertEqual(self.done, ["bind", "signal", "start"])

    def test_not_bound(self) -> None:
        """A place it cannot have ends the process with code 1 and a sentence, once the reactor runs."""
        self.not_bound = CannotListenError("", 25, OSError(98, "Address already in use"))
        self.daemon.privilegedStartService()
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            self.daemon.startService()
        self.assertEqual(self.done, ["bind", "code 1", "reactor"])
        self.assertIn("cannot listen on every address, port 25: Address already in use", stderr.getvalue())

    def test_no_start(self) -> None:
        """A node that cannot start ends the process with code 1 and a sentence."""
        self.result = fail(OSError("the port is taken"))
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            self.daemon.startService()
        self.assertEqual(self.done, ["signal", "start", "code 1", "reactor"])
        self.assertIn("the port is taken", stderr.getvalue())

    def test_defect(self) -> None:
        """What nobody expected at the start leaves its traceback in the log, too."""
        self.result = fail(ZeroDivisionError())
        with contextlib.redirect_stderr(io.StringIO()):
            self.daemon.startService()
        self.assertEqual(self.done[-2:], ["code 1", "reactor"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reload(self) -> None:
        """Wrong settings at SIGHUP are a line in the log, and that is all; a defect leaves its traceback there."""
        self.result = fail(ValueError("hostname holds 5"))
        self.daemon._reload()
        self.assertEqual(self.done, ["reload"])
        self.result = fail(ZeroDivisionError())
        self.daemon._reload()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
