"""``mailnode dkim`` and its orders, on a running node and on the key files of a node that is down."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import dns.zone

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import SETTINGS, Case
from tests.dns.fake import FakeResolver
from tests.threads import ThreadsAtOnce
from twisted_mail_node.admin import dkim_alone
from twisted_mail_node.admin.control_client import ControlClient, ControlError
from twisted_mail_node.settings import load
from twisted_mail_node.signing.files import KeyFiles
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.rotation import Rotation
from twisted_mail_node.signing.shown import NameServers

DAY = 86400.0
DOMAINS = '[[domain]]\nname = "here.example"\n[[domain]]\nname = "bücher.example"\n'


class Commands(Case):
    """What both have in common: each test runs with a node and without."""

    def reach(self) -> None:
        """Where the commands go."""

    def setUp(self) -> None:
        super().setUp()
        self.config.write_text(SETTINGS.format(self.state) + DOMAINS)
        self.files = KeyFiles(self.state)
        self.reach()

    def json(self, *arguments: str) -> Any:
        """The answer of a command, for programs."""
        result = self.mailnode("dkim", *arguments, "--json")
        self.assertEqual(result.exit_code, 0, result.stderr)
        return json.loads(result.stdout)

    def states(self, domain: str = "here.example") -> dict[str, str]:
        return {key.selector: str(key.state) for key in self.files.read(domain)}


class DownTest(Commands):
    """The node is down: its files are changed."""

    def test_empty(self) -> None:
        """Without keys a list is no error, says what to do, and makes nothing."""
        self.assertEqual(self.mailnode("dkim", "list").stdout, "There is no key yet: mailnode dkim create DOMAIN\n")
        self.assertEqual(self.json("list"), [])
        self.assertEqual(self.json("dns"), [])
        self.assertFalse((self.state / "dkim").exists())

    def test_create(self) -> None:
        """What goes to standard output is the zone file's lines and nothing else; the rest is said beside it."""
        result = self.mailnode("dkim", "create", "here.example")
        self.assertEqual(result.exit_code, 0, result.output)
        text = f"$ORIGIN here.example.\n@ 60 IN SOA ns. post. 1 1 1 1 1\n@ 60 IN NS ns\n{result.stdout}"
        zone = dns.zone.from_text(text, "here.example.")
        day = time.strftime("%Y%m%d", time.gmtime())
        for letter in "re":
            self.assertIsNotNone(zone.get_node(f"{day}{letter}._domainkey"))
        self.assertIn("sign once all name servers of the zone show it", result.stderr)
        self.assertEqual(self.states(), {f"{day}r": "new", f"{day}e": "new"})

    def test_create_json(self) -> None:
        """For programs: each key with all that is known of it, the record among it."""
        (one,) = self.json("create", "BÜCHER.example", "--kind", "ed25519", "--selector", "mail")
        self.assertEqual(
            (one["domain"], one["selector"], one["algorithm"], one["bits"], one["state"], one["name"]),
            ("xn--bcher-kva.example", "mail", "ed25519-sha256", 256, "new", "mail._domainkey.xn--bcher-kva.example"),
        )
        self.assertTrue(one["record"].startswith("v=DKIM1; k=ed25519; p="))
        self.assertLess(abs(one["created"] - time.time()), 100)

    def test_now(self) -> None:
        """With --now it signs at once, and that is warned of."""
        result = self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a", "--now")
        self.assertIn("a signs from now on: mail fails DKIM wherever the record is not seen yet", result.stderr)
        self.assertEqual(self.states(), {"a": "active"})
        result = self.mailnode("dkim", "rotate", "here.example", "--now")
        self.assertIn("a._domainkey.here.example signs no more. Leave its record in the DNS until 20", result.stderr)
        self.assertEqual(list(self.states().values()), ["retiring", "active"])

    def test_rotate(self) -> None:
        """The records of the new keys are printed; the old ones go on signing."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a", "--now")
        (new,) = self.json("rotate", "here.example")
        self.assertEqual((new["state"], new["replaces"]), ("new", ["a"]))
        self.assertEqual(self.states(), {"a": "active", new["selector"]: "new"})
        result = self.mailnode("dkim", "rotate", "here.example")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("are being replaced already", result.stderr)

    def test_retire(self) -> None:
        """An active key leaves in two steps; who has none left is told."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a", "--now")
        result = self.mailnode("dkim", "retire", "here.example", "a")
        self.assertIn("signs no more. Leave its record in the DNS until 20", result.stdout)
        self.assertEqual(result.stderr, "mailnode: no key of here.example signs now\n")
        again = self.mailnode("dkim", "retire", "here.example", "a")
        self.assertEqual((again.exit_code, "with --now" in again.stderr), (1, True))
        (one,) = self.json("retire", "here.example", "a", "--now")
        self.assertEqual(one["state"], "retired")
        self.assertIn("TXT of a._domainkey.here.example, can go", self.mailnode("dkim", "list").stdout)
        self.assertIn("; a._domainkey.here.example is retired.", self.mailnode("dkim", "dns").stdout)

    def test_list(self) -> None:
        """A line for each key below its domain; with a domain only its own."""
        self.mailnode("dkim", "create", "here.example", "--kind", "rsa", "--selector", "a")
        self.mailnode("dkim", "create", "mx.here.example", "--kind", "ed25519", "--selector", "b", "--now")
        lines = self.mailnode("dkim", "list").stdout.splitlines()
        self.assertEqual(lines[0], "here.example")
        self.assertRegex(lines[1], r"^  a  rsa 2048  new       for \d+ m?s$")
        self.assertIn("waits until all name servers show its record", lines[2])
        self.assertEqual(lines[3], "mx.here.example")
        self.assertRegex(lines[4], r"^  b  ed25519   active    for \d+ m?s$")
        self.assertEqual([one["selector"] for one in self.json("list", "mx.here.example")], ["b"])
        self.mailnode("dkim", "retire", "mx.here.example", "b")
        self.assertIn("its record is needed until 20", self.mailnode("dkim", "list").stdout)

    def test_dns(self) -> None:
        """The records of all keys that need one, as a zone file, each with its state."""
        self.mailnode("dkim", "create", "here.example", "--kind", "rsa", "--selector", "a", "--now")
        self.mailnode("dkim", "create", "bücher.example", "--kind", "ed25519", "--selector", "b")
        text = self.mailnode("dkim", "dns").stdout
        self.assertIn('; active\na._domainkey.here.example. 3600 IN TXT ( "v=DKIM1; k=rsa; p=', text)
        self.assertIn("; new\nb._domainkey.xn--bcher-kva.example. 3600 IN TXT", text)
        self.assertEqual([one["selector"] for one in self.json("dns", "bücher.example")], ["b"])

    def test_bad_input(self) -> None:
        """What cannot be is a sentence, and changes nothing."""
        for words, code, sentence in (
            (("create", "other.test"), 1, "no local domain; local are: here.example"),
            (("create", "heer.example"), 1, "did you mean 'here.example'"),
            (("create", "../../etc"), 1, "no local domain"),
            (("create", "x" * 401), 1, "'domain' must be a text"),
            (("create", ""), 1, "'domain' is missing"),
            (("create", "here.example", "--selector", "../x"), 1, "can be no selector"),
            (("create", "nosuch.example"), 1, "no local domain; local are: here.example, xn--bcher-kva.example"),
            (("create", "here.example", "--bits", "1024"), 1, "2048 to 4096 bits"),
            (("create", "here.example", "--bits", "0"), 2, "--bits"),
            (("create", "here.example", "--kind", "dsa"), 2, "--kind"),
            (("create",), 2, "DOMAIN"),
            (("rotate", "here.example"), 1, "no active key to replace: mailnode dkim create here.example"),
            (("retire", "here.example", "a"), 1, "there is no key a; there are: none"),
            (("retire", "elsewhere.example", "a"), 1, "no local domain"),
            (("list", "elsewhere.example"), 1, "no local domain"),
            (("dns", "elsewhere.example"), 1, "no local domain"),
        ):
            with self.subTest(words=words):
                result = self.mailnode("dkim", *words)
                self.assertEqual(result.exit_code, code, result.output)
                self.assertIn(sentence, result.stderr)
                self.assertEqual(result.stdout, "")
        self.assertEqual(self.states(), {})

    def test_twice(self) -> None:
        """A selector is given once."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a")
        result = self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("there is a key a already; it is new", result.stderr)

    def test_more(self) -> None:
        """Who makes keys beside others is told of them, and how to replace or give up keys; standard output stays the
        zone file's lines."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "A", "--now")
        result = self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "b")
        self.assertEqual(result.stdout.count("\n"), 1)
        self.assertIn(
            "every active key signs each mail: a (active). To replace keys: mailnode dkim rotate", result.stderr
        )
        self.assertEqual(self.states(), {"a": "active", "b": "new"})

    def test_retire_several(self) -> None:
        """A rotation is given up with one command, which the refusal of a second one has ready; where one selector is
        misspelt nothing is done."""
        self.mailnode("dkim", "create", "here.example", "--now")
        made = [one["selector"] for one in self.json("rotate", "here.example")]
        again = self.mailnode("dkim", "rotate", "here.example")
        words = f"mailnode dkim retire here.example {' '.join(made)}"
        self.assertIn(f"{' and '.join(made)} wait for their records to be seen; to give that up: {words}", again.stderr)
        result = self.mailnode("dkim", "retire", "here.example", *made, "x")
        self.assertEqual((result.exit_code, "there is no key x" in result.stderr), (1, True))
        self.assertEqual(self.states()[made[0]], "new")
        result = self.mailnode(*words.split()[1:])
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertEqual([self.states()[one] for one in made], ["retired", "retired"])
        self.mailnode("dkim", "rotate", "here.example")

    def test_damaged(self) -> None:
        """Damaged files are a sentence with their name."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a")
        (self.state / "dkim" / "here.example" / "keys.json").write_text("{")
        for words in (("list",), ("dns",), ("create", "here.example"), ("retire", "here.example", "a")):
            result = self.mailnode("dkim", *words)
            self.assertEqual((result.exit_code, "keys.json is not JSON" in result.stderr), (1, True), result.output)

    def test_check(self) -> None:
        """With --check all name servers are asked now, and who does not show a record is named."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a")
        self.asks()
        (one,) = self.json("list", "--check")
        self.assertEqual(one["missing"], ["ns.here.example (192.0.2.1) does not show it"])
        self.assertIn("ns.here.example (192.0.2.1) does not show it", self.mailnode("dkim", "list", "--check").stdout)
        self.zone["a._domainkey.here.example"] = {"TXT": [one["record"].encode()]}
        said = self.mailnode("dkim", "list", "--check").stdout
        self.assertRegex(said, r"all name servers show its record \(.* ago; the node, while it runs, signs with it")
        self.assertEqual(self.states(), {"a": "new"})
        self.mailnode("dkim", "retire", "here.example", "a")
        self.zone.clear()
        last = self.mailnode("dkim", "list", "--check").stdout.splitlines()[-1]
        self.assertIn("TXT of a._domainkey.here.example, can go", last)

    zone: dict[str, Any]

    def servers(self) -> NameServers:
        self.zone = {}
        world = {"here.example": {"NS": ["ns.here.example"]}, "ns.here.example": {"A": ["192.0.2.1"]}}
        return NameServers(FakeResolver(world), lambda ip: FakeResolver(self.zone), lambda ip: True)

    def asks(self) -> None:
        """Let nobody be asked but a name server in memory, and no reactor run."""
        servers = self.servers()

        def checked(settings: Any, domain: str) -> Any:
            rotation = Rotation(
                settings, SigningKeys(settings), servers=servers, updates=None, reactor=ThreadsAtOnce(),
                publish=lambda event: None,
            )  # fmt: skip
            return outcome_of(rotation.listed(domain, check=True))

        self.patch(dkim_alone, "checked", checked)


class RunningTest(DownTest):
    """A node runs: it is asked."""

    def reach(self) -> None:
        self.node = cast(Any, FakeNode())
        self.events: list[object] = []
        self.clock = ThreadsAtOnce()
        self.clock.advance(time.time())
        self.keys = SigningKeys(load(self.config))
        self.node.dkim = Rotation(
            load(self.config), self.keys, servers=self.servers(), updates=None, reactor=self.clock,
            publish=self.events.append,
        )  # fmt: skip
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def asks(self) -> None:
        """The node asks."""

    def test_counts(self) -> None:
        """What is ordered counts in the node at once, with its events."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a", "--now")
        self.assertEqual([key.selector for key in self.keys.of("here.example")], ["a"])
        self.assertEqual([type(one).__name__ for one in self.events], ["DkimKeyCreated", "DkimKeyActivated"])
        self.mailnode("dkim", "retire", "here.example", "a")
        self.assertEqual(self.keys.of("here.example"), ())

    def test_orders(self) -> None:
        """Requests with values of the wrong kind are refused, each with its sentence."""
        client = ControlClient(self.state)
        good = {"domain": "here.example"}
        for command, arguments in (
            ("create", {}),
            ("create", {"domain": 5}),
            ("create", {"domain": ["here.example"]}),
            ("create", {"domain": "here.example\udcff"}),
            ("create", good | {"bits": "2048"}),
            ("create", good | {"bits": 1 << 40}),
            ("create", good | {"bits": True}),
            ("create", good | {"kind": "dsa"}),
            ("create", good | {"kind": 5}),
            ("create", good | {"selector": "a/../b"}),
            ("create", good | {"selector": 7}),
            ("rotate", {}),
            ("retire", good),
            ("retire", good | {"selector": None}),
            ("list", {"domain": 5}),
        ):
            with self.subTest(command=command, arguments=arguments):
                self.assertRaises(ControlError, client.ask, f"dkim.{command}", **arguments)
        self.assertEqual((self.events, self.states()), ([], {}))


def outcome_of(story: Any) -> Any:
    """What a coroutine that never waits gives."""
    try:
        story.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class SettingsTest(Commands):
    """What the settings say is minded."""

    def test_disabled(self) -> None:
        """Who makes keys while nothing is signed is told."""
        self.config.write_text(SETTINGS.format(self.state) + DOMAINS + "[dkim]\nenabled = false\n")
        result = self.mailnode("dkim", "create", "here.example", "--kind", "ed25519")
        self.assertIn("enabled is false: no mail is signed", result.stderr)

    def test_publishes(self) -> None:
        """Where the node publishes, nobody is told to."""
        self.state.mkdir(mode=0o700)
        key = Path(self.state / "k")
        key.write_text("AAAA")
        key.chmod(0o600)
        update = '[dkim]\nupdate_server = "127.0.0.1:1"\nupdate_key_file = "k"\nupdate_key_name = "u"\n'
        self.config.write_text(SETTINGS.format(self.state) + DOMAINS + update)
        result = self.mailnode("dkim", "create", "here.example", "--kind", "ed25519")
        self.assertIn("the node publishes its record at 127.0.0.1 once it runs", result.stderr)
        self.assertEqual(self.mailnode("check-config").exit_code, 0)
        key.chmod(0o644)
        self.assertIn("others may read", self.mailnode("check-config").stderr)

    def test_check_config(self) -> None:
        """check-config looks at the keys, too."""
        self.mailnode("dkim", "create", "here.example", "--kind", "ed25519", "--selector", "a", "--now")
        self.assertEqual(self.mailnode("check-config").exit_code, 0)
        (self.state / "dkim" / "here.example" / "a.pem").chmod(0o644)
        result = self.mailnode("check-config")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("others may use", result.stderr)
