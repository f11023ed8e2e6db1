"""A node's life: its start and the sentences when it cannot, its settings read anew, its orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time

from tests.interop.mails import plain
from tests.interop.node import BIN, ROOT, Node, NodeTest, Process, free_port, greeting_of, runs, wait_for
from tests.interop.wire import Client, added_to, send


def complaints(here: Node) -> str:
    """What the node wrote to standard error, but for its warning that the certificate is of its own making."""
    lines = here.running.err.splitlines(keepends=True)
    return "".join(line for line in lines if "there is no certificate yet" not in line)


class EndTest(NodeTest):
    """SIGTERM."""

    def test_mail_in_transfer(self) -> None:
        """An idle session is told 421; mail in transfer by DATA and by BDAT is finished and delivered; exit code 0."""
        here = self.node().start()
        content = plain("the last", b"a line\r\n" * 1000)
        with Client(here.port) as idle, Client(here.port) as data, Client(here.port) as chunks:
            data.open(["joe@here.test"])
            data.must("DATA", "354")
            data.send(content[:4000])
            chunks.open(["ann@here.test"])
            chunks.send(b"BDAT 4000\r\n" + content[:4000])
            self.assertTrue(chunks.reply().startswith("250"))
            here.running.signal(signal.SIGTERM)
            self.assertRegex(idle.reply(), "^421 4.3.2 ")
            self.assertEqual(idle.reply(), "")
            wait_for(lambda: not greeting_of(here.port), "no listener")
            self.assertIsNone(here.running.code)
            time.sleep(0.3)
            data.send(content[4000:] + b".\r\n")
            chunks.send(b"BDAT %d LAST\r\n" % len(content[4000:]) + content[4000:])
            for session in (data, chunks):
                self.assertRegex(session.reply(), "^250 2.0.0 Queued as ")
                self.assertRegex(session.reply(), "^421 4.3.2 ")
                self.assertEqual(session.reply(), "")
        self.assertEqual(here.running.wait(), 0)
        self.assertEqual(complaints(here), "")
        for who in ("joe", "ann"):
            (mail,) = here.mails(who)
            added_to(mail, content)
        (stopped,) = here.events("node-stopped")
        self.assertGreaterEqual(stopped["seconds"], 0.3)

    def test_between_commands(self) -> None:
        """A session whose transaction has no content yet is idle: 421, and nothing is kept of it."""
        here = self.node().start()
        with Client(here.port) as client:
            client.open(["joe@here.test"])
            self.assertEqual(here.stop(), 0)
            self.assertRegex(client.reply(), "^421 4.3.2 ")
        self.assertEqual((here.mails(), here.queue()), ([], []))

    def test_interrupt(self) -> None:
        """Ctrl-C ends it like SIGTERM; ``mailnode stop`` too, and waits for the end."""
        here = self.node().start()
        send(here.port, plain("before"), ["ann@here.test"])
        here.wait_mail("ann", having=b"before")
        with Client(here.port) as client:
            client.open(["joe@here.test"])
            client.must("DATA", "354")
            here.running.interrupt()
            time.sleep(0.3)
            client.send(b"Subject: late\r\n\r\n.\r\n")
            self.assertTrue(client.reply().startswith("250"))
        self.assertEqual(here.running.wait(), 0)
        self.assertEqual(len(here.mails("joe")), 1)
        self.assertEqual(complaints(here), "")
        here.start()
        self.assertIn("has stopped", here.command("stop"))
        self.assertEqual(here.running.wait(5), 0)
        self.assertIn("no node is running", here.command("stop", code=1))

    def test_nothing_stays(self) -> None:
        """However the node ends, the processes it started end, too."""
        here = self.node()
        for end in (here.stop, here.kill):
            here.start()
            send(here.port, plain("before the end"))
            children = here.running.children()
            end()
            wait_for(lambda children=children: not any(map(runs, children)), f"the end of {children}")  # type: ignore[misc]

    def test_writer_dies(self) -> None:
        """When the process that writes Maildirs is killed the node goes on: mails wait, and then are written."""
        here = self.node(retry="1s").start()
        send(here.port, plain("before"))
        here.wait_mail("joe", having=b"before")
        for child in here.running.children():
            os.kill(child, signal.SIGKILL)
        send(here.port, plain("after"))
        here.wait_mail("joe", having=b"after")
        here.wait_queue(0)
        self.assertEqual(here.stop(), 0)


class ReloadTest(NodeTest):
    """SIGHUP."""

    ALIAS = '[[alias]]\naddress = "sales@here.test"\nto = ["joe@here.test"]\n'

    def refused(self, here: Node, address: str) -> bool:
        """Whether the node refuses a recipient."""
        with Client(here.port) as client:
            client.must("MAIL FROM:<a@b.test>")
            return client.ask(f"RCPT TO:<{address}>").startswith("550")

    def test_good_and_wrong(self) -> None:
        """Good new settings count at once, in running sessions, too; wrong ones change nothing, and it is said why."""
        here = self.node().start()
        with Client(here.port) as session:
            session.must("MAIL FROM:<a@b.test>")
            self.assertRegex(session.ask("RCPT TO:<sales@here.test>"), "^550 5.1.1 ")
            here.write(tables=self.ALIAS)
            here.running.signal(signal.SIGHUP)
            here.wait_event("settings-loaded")
            session.must("RCPT TO:<sales@here.test>")
            session.must("RSET")
            here.write(tables='[[alias]]\naddress = "sales@here.test"\nto = []\n[limits]\nrecipents = 3\n')
            here.running.signal(signal.SIGHUP)
            event = here.wait_event("settings-refused")
            self.assertIn("alias[1].to", event["words"])
            self.assertIn("limits.recipents", event["words"])
            self.assertIn("recipients", event["words"])
            wait_for(lambda: "the old settings stay in force" in here.running.err, "a line in the log")
            session.must("MAIL FROM:<a@b.test>")
            session.must("RCPT TO:<sales@here.test>")
            self.assertTrue(session.data(plain("to sales")).startswith("250"))
        here.wait_mail("joe", having=b"to sales")
        self.assertEqual(here.stop(), 0)

    def test_command(self) -> None:
        """``mailnode reload`` does the same, and prints what is wrong."""
        here = self.node().start()
        here.write(tables=self.ALIAS)
        self.assertIn("in force", here.command("reload"))
        self.assertFalse(self.refused(here, "sales@here.test"))
        here.config.write_text("hostname = 3\n", "utf-8")
        words = here.command("reload", code=None)
        self.assertIn("hostname", words)
        here.config.unlink()
        here.running.signal(signal.SIGHUP)
        self.assertIn("no such file", here.wait_event("settings-refused")["words"])
        self.assertFalse(self.refused(here, "sales@here.test"))

    def test_account(self) -> None:
        """An account that is added by command has mail after a reload."""
        here = self.node().start()
        self.assertTrue(self.refused(here, "new@here.test"))
        here.command("account", "add", "new@here.test", "--no-password")
        here.command("reload")
        send(here.port, plain("welcome"), ["new@here.test"])
        here.wait_mail("new", having=b"welcome")

    def test_log_is_opened_anew(self) -> None:
        """After the event log was renamed, SIGHUP begins a new one."""
        here = self.node().start()
        log = here.state / "log" / "mail.jsonl"
        here.wait_event("node-started")
        log.rename(log.with_suffix(".1"))
        here.running.signal(signal.SIGHUP)
        wait_for(log.exists, "a new log")
        here.wait_event("settings-loaded")


class StartTest(NodeTest):
    """What is said when something is wrong, and the ways to start."""

    def ends(self, process: Process, code: int) -> str:
        """Wait for its end; gives what it said on standard error."""
        self.assertEqual(process.wait(30), code, process.out + process.err)
        self.assertNotIn("Traceback", process.err)
        return process.err

    def test_check_config(self) -> None:
        """Every error at once, each with its key and what is allowed, and exit code 2; run says the same."""
        here = self.node()
        here.config.write_text(
            """hostname = "not a name"
state_dir = 5
relay_form = ["10.0.0.0/8"]
[[listener]]
kind = "mix"
endpoint = "tcp:99999"
tls = "startls"
[[domain]]
name = "here.test"
[[account]]
address = "joe@elsewhere.test"
[[alias]]
address = "round@here.test"
to = ["circle@here.test"]
[[alias]]
address = "circle@here.test"
to = ["round@here.test"]
[[route]]
domain = "*"
next_hop = "[not an address"
[limits]
connections = -1
message_size = "50X"
[queue]
retry = []
""",
            "utf-8",
        )
        words = here.command("check-config", code=2)
        for key in (
            "hostname", "state_dir", "relay_form", "relay_from", "listener[1].kind", "listener[1].endpoint",
            "listener[1].tls", "account[1].address", "alias[1].to", "route[1].next_hop", "limits.connections",
            "limits.message_size", "queue.retry",
        ):  # fmt: skip
            with self.subTest(key=key):
                self.assertIn(key, words)
        self.assertEqual(words.count("Allowed: "), 12, words)
        self.assertEqual(self.ends(here.launch(), 2), words)
        here.write()
        self.assertIn("The settings are right", here.command("check-config"))

    def test_no_file(self) -> None:
        """A settings file that is not there is named; exit code 2."""
        here = self.node()
        here.config.unlink()
        self.assertRegex(self.ends(here.launch(), 2), r"settings\.toml holds nothing: there is no such file")

    def test_port_in_use(self) -> None:
        """A port that is taken: one sentence that names it, exit code 1, and nothing is left behind."""
        here = self.node()
        with socket.create_server(("127.0.0.1", here.port)):
            words = self.ends(here.launch(), 1)
        self.assertEqual(len(complaints(here).splitlines()), 1, words)
        self.assertIn(f"cannot listen on 127.0.0.1, port {here.port}: Address already in use", words)
        self.assertFalse((here.state / "control.sock").exists())
        here.start()
        self.assertEqual(here.stop(), 0)

    def test_second_node(self) -> None:
        """A second node on the same state directory is refused in a sentence, and the first one goes on."""
        here = self.node().start()
        second = self.node()
        second.state = here.state
        second.write()
        words = self.ends(second.launch(), 1)
        self.assertEqual(len(words.splitlines()), 1, words)
        self.assertIn(f"another node runs with the state directory {here.state}", words)
        send(here.port, plain("still here"))
        here.wait_mail("joe", having=b"still here")
        self.assertIn("hostname", here.command("status"))

    def test_state_dir(self) -> None:
        """A state directory that is a file: a sentence, exit code 1."""
        here = self.node()
        here.state.write_text("in the way")
        words = self.ends(here.launch(), 1)
        self.assertIn(str(here.state), words)

    def alive(self, here: Node, code: int = 0) -> None:
        """It takes a mail, delivers it, answers its operator, reads settings anew, and ends in order.

        :param code: of its end. twistd ends by the signal that stopped it, when all is done.
        """
        send(here.port, plain("a way"))
        here.wait_mail("joe", having=b"a way")
        self.assertEqual(json.loads(here.command("status", "--json"))["hostname"], "mx.here.test")
        here.write(tables=ReloadTest.ALIAS)
        here.running.signal(signal.SIGHUP)
        here.wait_event("settings-loaded")
        here.write(top="wrong = 1")
        here.running.signal(signal.SIGHUP)
        here.wait_event("settings-refused")
        here.running.signal(signal.SIGTERM)
        self.assertEqual(here.running.wait(), code, here.running.out + here.running.err)
        self.assertTrue(here.events("node-stopped"))
        self.assertNotIn("Traceback", here.running.out + here.running.err)

    def test_run(self) -> None:
        """``mailnode run -c FILE``: it says where it listens, where mail lands and what to try."""
        here = self.node().start()
        for words in (f"127.0.0.1:{here.port} (mx, STARTTLS)", str(here.state), "mailnode test -c", "Ctrl-C"):
            wait_for(lambda words=words: words in here.running.out, words)  # type: ignore[misc]
        self.alive(here)

    def test_twistd(self) -> None:
        """``twistd -n mailnode -c FILE``."""
        here = self.node()
        self.alive(here.start((BIN / "twistd", "-n", "--pidfile=", "mailnode", "-c", here.config), self.path()), -15)

    def test_tac(self) -> None:
        """``twistd -ny tac/node.tac`` with the settings in the environment."""
        here = self.node()
        command = (BIN / "twistd", "-n", "--pidfile=", "-y", ROOT / "tac" / "node.tac")
        self.alive(here.start(command, {"MAILNODE_SETTINGS": str(here.config), **self.path()}), -15)

    @staticmethod
    def path() -> dict[str, str]:
        """Where twistd finds the plug-in, whatever its working directory."""
        return {"PYTHONPATH": str(ROOT)}

    def test_twistd_port_in_use(self) -> None:
        """Under twistd, too, a start that fails ends the process with code 1 and a sentence."""
        here = self.node()
        command = (BIN / "twistd", "-n", "--pidfile=", "mailnode", "-c", here.config)
        with socket.create_server(("127.0.0.1", here.port)):
            process = here.launch(command, self.path())
            self.assertEqual(process.wait(30), 1)
        self.assertIn(f"mailnode: cannot listen on 127.0.0.1, port {here.port}: Address already in use", process.out)
        self.assertNotIn("Traceback", process.out + process.err)


class OperatorTest(NodeTest):
    """What an operator has."""

    def test_control_socket(self) -> None:
        """Only its owner uses the control socket; nonsense on it does no harm; it goes with the node."""
        here = self.node().start()
        path = here.state / "control.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(here.state.stat().st_mode), 0o700)
        for nonsense in (
            b"\0" * 100 + b"\n",
            b"[1]\n",
            b'{"command": 5}\n',
            b"{" * 70000 + b"\n",
            b'{"command":"stop"',
        ):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                connection.sendall(nonsense)
                connection.shutdown(socket.SHUT_WR)
                if nonsense.endswith(b"\n"):
                    self.assertIn(b'"ok":false', connection.recv(4096))
        self.assertIn("hostname", here.command("status"))
        self.assertEqual(here.stop(), 0)
        self.assertFalse(path.exists())

    def test_private_files(self) -> None:
        """Nobody else reads the spool, the Maildirs and the accounts."""
        here = self.node().start()
        here.command("account", "add", "new@here.test", "--no-password")
        send(here.port, plain("private", b"a line\r\n" * 100_000))
        here.wait_mail("joe", having=b"private")
        log = here.state / "log"
        for path in here.state.rglob("*"):
            if path != log and log not in path.parents:
                with self.subTest(path=str(path.relative_to(here.state))):
                    mode = path.stat().st_mode
                    private = not stat.S_IMODE(mode) & 0o077
                    guarded = any(not parent.stat().st_mode & 0o077 for parent in path.parents if parent != here.place)
                    self.assertTrue(private or guarded, oct(mode))

    def test_test(self) -> None:
        """``mailnode test`` sends a mail and follows it to its file; when nobody listens it says so, and what to do."""
        here = self.node()
        words = here.command("test", code=None)
        self.assertIn("It did not work. No node is running here", words)
        self.assertIn("mailnode run", words)
        here.start()
        words = here.command("test")
        for step in ("connected to", "queued as", "delivered to joe@here.test", "The mail has arrived"):
            self.assertIn(step.lower(), words.lower())
        file = next(line.strip() for line in words.splitlines() if str(here.maildir()) in line)
        with open(file, "rb") as mail:
            self.assertIn(b"Subject: A test of this mail node", mail.read())
        self.assertIn("Nobody has that address", here.command("test", "--to", "nobody@here.test", code=None))
        self.assertIn("relay_from", here.command("test", "--to", "someone@elsewhere.test", code=None))

    def test_sink(self) -> None:
        """``mailnode sink`` takes every mail for everybody, counts, and ends with Ctrl-C."""
        place = self.node().place
        port = free_port()
        sink = Process([BIN / "mailnode", "sink", "--port", str(port)], place, "sink", {"PYTHONUNBUFFERED": "1"})
        self.addCleanup(sink.kill)
        wait_for(lambda: greeting_of(port), "the sink's greeting")
        for number in range(3):
            send(port, plain(f"gone {number}"), ["anybody@any.test", "else@other.test"])
        send(port, plain("gone", b"a line\r\n" * 100_000), ["anybody@any.test"], chunks=5000)
        sink.signal(signal.SIGINT)
        self.assertEqual(sink.wait(), 0)
        self.assertIn("In all: 4 mails, 7 recipients", sink.out)
        taken = subprocess.run(
            [BIN / "mailnode", "sink", "--port", "1", "--host", "192.0.2.1"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        self.assertEqual(taken.returncode, 1)
        self.assertIn("cannot listen on 192.0.2.1:1", taken.stdout + taken.stderr)
