"""``mailnode queue`` on a running node and on the spool of a node that is down."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import CONTENT, Bridge, FakeNode, mail
from twisted_mail_node.admin import looks, mails
from twisted_mail_node.admin.cli import main
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.shapes import mail_as_shape
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import Change, Entry, Filter, Mail, State
from twisted_mail_node.spool.sqlite import NewMail, Store

SETTINGS = 'hostname = "mx.here.example"\nstate_dir = "{}"\n[[listener]]\nkind = "mx"\nendpoint = "tcp:2525"\n'


class Case(SynchronousTestCase):
    """A settings file whose state is in a temporary directory."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name) / "state"
        self.config = Path(place.name) / "settings.toml"
        self.config.write_text(SETTINGS.format(self.state))

    def mailnode(self, *arguments: str, given: str = "", columns: str = "200") -> Result:
        result = CliRunner().invoke(
            main, arguments, input=given, env={"MAILNODE_SETTINGS": str(self.config), "COLUMNS": columns}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


class RunningTest(Case):
    """A node runs."""

    def setUp(self) -> None:
        super().setUp()
        held = Recipient(Address("bob", "b.example"), Address("sales", "here.example"))
        self.node = FakeNode([mail("0a"), mail("0b", Entry(0, held, State.HELD), sender=None)])
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def test_list(self) -> None:
        """list shows a line for each mail."""
        result = self.mailnode("queue", "list")
        self.assertEqual(result.exit_code, 0)
        heading, first, second, last = result.stdout.splitlines()
        for word in ("Queue id", "From", "Last words"):
            self.assertIn(word, heading)
        for word in ("0a", "joe@here.example", "ann@there.example", "delayed", "3", "connection refused"):
            self.assertIn(word, first)
        for word in ("0b", "<>", "held"):
            self.assertIn(word, second)
        self.assertEqual(last, "2 mails")
        self.assertIn("the node is running", result.stderr)

    def test_wrong_settings(self) -> None:
        """A running node is asked although its settings file is wrong just now: the operator is told, and sees it."""
        self.config.write_text(f'state_dir = "{self.state}"\nlistner = 7\n')
        for command in (["queue", "list"], ["status"]):
            result = self.mailnode(*command)
            self.assertEqual(result.exit_code, 0)
            self.assertIn("The settings are wrong", result.stderr)
        self.config.write_text("state_dir = 5\n")
        self.assertEqual(self.mailnode("queue", "list").exit_code, 2)
        self.config.write_text("not TOML\n")
        self.assertEqual(self.mailnode("status").exit_code, 2)

    def test_list_filter(self) -> None:
        """The filters reach the node."""
        self.mailnode("queue", "list", "--state", "held", "--sender", "<>", "--limit", "5")
        (wanted,) = self.node.queue.wanted
        self.assertEqual((wanted.state, wanted.sender, wanted.limit), (State.HELD, "<>", 5))

    def test_list_json(self) -> None:
        """--json gives an array and nothing else."""
        result = self.mailnode("queue", "list", "--json")
        self.assertEqual([one["queue_id"] for one in json.loads(result.stdout)], ["0a", "0b"])
        self.assertEqual(result.stderr, "")

    def test_control_characters(self) -> None:
        """Escapes in addresses, words and headers never reach the terminal (attack T20)."""
        evil = Address("x\x1b[2J\u202ey", "b.example")
        status = DeliveryStatus(
            Action.DELAYED, "4.0.0", Reason.REMOTE_DELAYED, "450 \x1b]0;owned\x07\r\nforged", "h\x1b"
        )
        self.node.queue.mails = [
            mail("0a", Entry(0, Recipient(evil, evil), State.DELAYED, 1.0, 1, "d", status), sender=evil)
        ]
        shape = {**mail_as_shape(self.node.queue.mails[0]), "header": "S: \x1b[31m\r\n\tfolded\r\n"}
        self.patch(mails.NodeMails, "show", lambda own, ids: [shape])
        for arguments in (["list"], ["show", "0a"]):
            result = self.mailnode("queue", *arguments)
            self.assertEqual(result.exit_code, 0)
            self.assertTrue(all(octet.isprintable() or octet == "\n" for octet in result.stdout), result.stdout)
        self.assertNotIn("\nforged", result.stdout)

    def test_changes(self) -> None:
        """Ids go to the node as one order each, and the count comes back."""
        for order, words in (
            ("hold", "Held 2 mails.\n"),
            ("release", "Released 2 mails.\n"),
            ("retry", "To be tried now: 2 mails.\n"),
            ("remove", "Removed 2 mails.\n"),
        ):
            result = self.mailnode("queue", order, "0a", "0b")
            self.assertEqual((result.exit_code, result.stdout), (0, words))
            self.assertEqual(self.node.queue.ordered.pop(), (order, ["0a", "0b"]))

    def test_unknown(self) -> None:
        """An id that nobody knows is a sentence and exit code 1; the others are done."""
        result = self.mailnode("queue", "hold", "0a", "zz\x1b")
        self.assertEqual((result.exit_code, result.stdout), (1, "Held 1 mail.\n"))
        self.assertIn("no mail in the queue has the id zz?", result.stderr)
        result = self.mailnode("queue", "retry", "--json", "zz")
        self.assertEqual((result.exit_code, json.loads(result.stdout)), (1, {"changed": [], "unknown": ["zz"]}))

    def test_all(self) -> None:
        """--all means every mail; retry leaves held ones alone."""
        self.assertEqual(self.mailnode("queue", "hold", "--all").stdout, "Held 2 mails.\n")
        self.assertEqual(self.mailnode("queue", "retry", "--all").stdout, "To be tried now: 1 mail.\n")
        self.assertEqual(self.node.queue.ordered[-1], ("retry", ["0a"]))

    def test_which(self) -> None:
        """Neither nothing nor two ways to say which mails are taken."""
        for arguments in (["hold"], ["hold", "0a", "--all"], ["remove", "0a", "--sender", "x"]):
            self.assertEqual(self.mailnode("queue", *arguments).exit_code, 2)
        self.assertEqual(self.node.queue.ordered, [])

    def test_remove_many(self) -> None:
        """Removing many asks first, unless --yes says not to."""
        result = self.mailnode("queue", "remove", "--all", given="n\n")
        self.assertEqual((result.exit_code, self.node.queue.ordered), (1, []))
        self.assertIn("Remove 2 mails", result.stderr)
        self.assertEqual(self.mailnode("queue", "remove", "--all", given="y\n").exit_code, 0)
        self.assertEqual(self.mailnode("queue", "remove", "--sender", "joe", "--yes").exit_code, 0)
        self.assertEqual(len(self.node.queue.ordered), 2)

    def test_many_ids(self) -> None:
        """More ids than one request takes go in several."""
        self.mailnode("queue", "hold", *[f"{number:x}" for number in range(1200)])
        self.assertEqual([len(ids) for _, ids in self.node.queue.ordered], [500, 500, 200])

    def test_refused(self) -> None:
        """What the node refuses is said, with exit code 1."""
        self.node.queue.error = KeyError("oh")
        result = self.mailnode("queue", "list")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("something broke in the node", result.stderr)
        self.flushLoggedErrors(KeyError)


class WishesTest(Case):
    """What the sender asked for, on a node that runs."""

    def setUp(self) -> None:
        super().setUp()
        address = Address("ann", "there.example")
        self.until = time.time() + 7200
        self.waiting = Entry(0, Recipient(address, address), State.DELAYED, self.until)
        self.node = FakeNode([])
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def lines(self, command: str, *entries: Entry, **fields: Any) -> str:
        """What a command says of one mail."""
        one = mail("0a", *entries, **fields)
        self.node.queue.mails = [one]
        shape = {**mail_as_shape(one), "header": "Subject: x\r\n"}
        self.patch(mails.NodeMails, "show", lambda own, ids: [shape])
        result = self.mailnode("queue", command, *(["0a"] if command == "show" else []))
        self.assertEqual(result.exit_code, 0)
        return " ".join(result.stdout.split())

    def test_held_back(self) -> None:
        """list and show say that the sender holds a mail back, and until when; not of one that was tried already."""
        words = f"held back by its sender until {looks.moment(self.until)}"
        for command in ("list", "show"):
            self.assertIn(words, self.lines(command, self.waiting, release_at=self.until))
            tried = self.waiting._replace(attempts=1)
            self.assertNotIn("held back", self.lines(command, tried, release_at=self.until))
            self.assertNotIn("held back", self.lines(command, self.waiting))

    def test_show(self) -> None:
        """show tells account, TLS of the session, REQUIRETLS, priority and times."""
        shown = self.lines(
            "show",
            self.waiting._replace(told=True),
            account="joe@here.example",
            tls="TLSv1.3 with X",
            require_tls=True,
            priority=-4,
            release_at=self.until,
            deliver_by=self.until + 60,
            by_mode="N",
            by_trace=True,
        )
        for words in (
            "TLS TLSv1.3 with X",
            "Signed in joe@here.example",
            "Asked for REQUIRETLS, priority -4, not before " + looks.moment(self.until),
            f"delivered by {looks.moment(self.until + 60)} or a notice, traced",
            "the sender was told that it is late",
        ):
            self.assertIn(words, shown)
        returned = self.lines("show", deliver_by=self.until, by_mode="R")
        self.assertIn(f"delivered by {looks.moment(self.until)} or returned", returned)

    def test_ordinary(self) -> None:
        """Of ordinary mail show says that it came without TLS, and nothing of wishes."""
        shown = self.lines("show")
        self.assertIn("TLS none", shown)
        for words in ("Signed in", "Asked for", "priority", "not before", "told"):
            self.assertNotIn(words, shown)

    def test_retry_all(self) -> None:
        """retry --all does not send early what a sender holds back; its id does."""
        self.node.queue.mails = [mail("0a", self.waiting, release_at=time.time() + 1e6), mail("0b")]
        self.assertEqual(self.mailnode("queue", "retry", "--all").exit_code, 0)
        self.assertEqual(self.mailnode("queue", "release", "0a").exit_code, 0)
        self.assertEqual(self.node.queue.ordered, [("retry", ["0b"]), ("release", ["0a"])])


class DownTest(Case):
    """No node runs; the spool is there."""

    def setUp(self) -> None:
        super().setUp()
        self.store = Store(self.state / "spool")
        self.addCleanup(self.store.close)
        self.put(mail("0000000000000a"))
        self.put(mail("0000000000000b", sender=None))

    def put(self, one: Mail) -> None:
        entry = one.entries[0]
        row = (int(one.queue_id, 16), time.time(), encode_envelope(one.envelope), one.header, len(CONTENT), 0, CONTENT)
        new = NewMail(row, (encode_recipient(entry.recipient),), State.ACTIVE)
        change = Change(one.queue_id, 0, State.DELAYED, time.time() + 3600, 3, "there.example", entry.last)
        self.store.transaction(lambda: self.store.insert([new]))
        self.store.transaction(lambda: self.store.change([change]))

    def states(self) -> list[State]:
        return [one.entries[0].state for one in self.store.find(Filter())]

    def test_list(self) -> None:
        """list reads the spool and says that the node is down."""
        result = self.mailnode("queue", "list")
        self.assertEqual((result.exit_code, result.stdout.splitlines()[-1]), (0, "2 mails"))
        self.assertIn("the node is down", result.stderr)

    def test_show(self) -> None:
        """show tells envelope, recipients, attempts, last words and header."""
        result = self.mailnode("queue", "show", "0000000000000a")
        self.assertEqual(result.exit_code, 0)
        for words in (
            "From        joe@here.example",
            "ESMTP from client.example [192.0.2.1], session s1",
            "ann@there.example: delayed, 3 attempts, next in 1 h 0 min",
            "mx.there.example 192.0.2.7:25: 4.4.1 connect-failed: connection refused",
            "  Subject: greetings",
        ):
            self.assertIn(words, result.stdout)
        self.assertNotIn("body\n", result.stdout)

    def test_frozen(self) -> None:
        """show and retry know what is frozen."""
        self.mailnode("queue", "freeze", "there.example")
        (shown,) = json.loads(self.mailnode("queue", "show", "0000000000000a", "--json").stdout)
        self.assertTrue(shown["recipients"][0]["frozen"])
        self.assertIn("mailnode queue thaw there.example", self.mailnode("queue", "show", "0000000000000a").stdout)
        result = self.mailnode("queue", "retry", "--destination", "there.example", "--yes")
        self.assertIn("But there.example is frozen", result.stdout)
        self.mailnode("queue", "thaw", "there.example")
        (shown,) = json.loads(self.mailnode("queue", "show", "0000000000000a", "--json").stdout)
        self.assertFalse(shown["recipients"][0]["frozen"])

    def test_show_json(self) -> None:
        """show --json holds the header too; an unknown id is exit code 1."""
        result = self.mailnode("queue", "show", "--json", "0000000000000a", "0c", "nonsense")
        (found,) = json.loads(result.stdout)
        self.assertIn("Subject: greetings\r\n", found["header"])
        self.assertEqual((result.exit_code, len(result.stderr.splitlines())), (1, 2))

    def test_hold_and_release(self) -> None:
        """hold, retry and release change the spool; retry --all leaves held mails alone."""
        self.assertEqual(self.mailnode("queue", "hold", "0000000000000a").exit_code, 0)
        self.assertEqual(self.states(), [State.HELD, State.DELAYED])
        self.assertEqual(self.mailnode("queue", "retry", "--all").stdout, "To be tried now: 1 mail.\n")
        self.assertEqual(self.states(), [State.HELD, State.DELAYED])
        self.assertEqual(self.mailnode("queue", "release", "--all").exit_code, 0)
        self.assertEqual(self.states(), [State.DELAYED, State.DELAYED])

    def test_remove(self) -> None:
        """remove takes out what is named and nothing else."""
        result = self.mailnode("queue", "remove", "--sender", "<>", "--yes")
        self.assertEqual((result.exit_code, result.stdout, len(self.states())), (0, "Removed 1 mail.\n", 1))

    def test_empty(self) -> None:
        """An empty queue is said so."""
        self.mailnode("queue", "remove", "--all", "--yes")
        self.assertEqual(self.mailnode("queue", "list").stdout, "The queue is empty.\n")


class NothingTest(Case):
    """Neither a node nor a spool."""

    def test_list(self) -> None:
        """No spool is a sentence, exit code 1, and none is made."""
        result = self.mailnode("queue", "list")
        self.assertEqual((result.exit_code, self.state.exists()), (1, False))
        self.assertIn("no spool", result.stderr)
