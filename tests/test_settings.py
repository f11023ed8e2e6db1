"""Tests of the settings: what a file means, and what is said of a wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from ipaddress import ip_network
from pathlib import Path
from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node import settings_docs, settings_spelling
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import (
    Account,
    Limits,
    PolicySettings,
    Problem,
    Settings,
    SettingsError,
    development,
    load,
    parse,
)

HASH = "$argon2id$v=19$m=19456,t=2,p=1$YHLnJpS1lBOFp7WRRqLFfQ$jtm6B+TsKP2KuVGsm22wTYaJm97llVJNXvoNmOC/SXY"

BASE = """
hostname = "mx.example.org"
[[listener]]
kind = "mx"
endpoint = "tcp:2525"
[[domain]]
name = "example.org"
"""

WHOLE = f"""
hostname = "MX.Example.org"
state_dir = "state"
workers = 1
relay_from = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.1"]

[[listener]]
kind = "mx"
endpoint = "tcp:2525:interface=127.0.0.1"

[[listener]]
kind = "submission"
endpoint = 'tcp6:2587:interface=\\:\\:1'
tls = "implicit"
proxy_from = ["10.0.0.0/8", "2001:db8:1::/48"]
xclient_from = ["10.1.2.3"]

[[certificate]]
chain = "/etc/ssl/mx.pem"

[[certificate]]
chain = "/etc/ssl/example.crt"
key = "/etc/ssl/example.key"

[tls]
directory = "/etc/mailnode/tls"
minimum = "1.3"
tickets = false
handshake_time = "10s"
client_ca = "/etc/mailnode/clients.pem"
trusted = "/etc/mailnode/roots.pem"

[authentication]
mechanisms = ["EXTERNAL", "PLAIN"]
checkers = ["accounts", "file:/etc/mailnode/passwd"]
threads = 4

[oauth]
jwks = "/etc/mailnode/jwks.json"
introspection = "https://login.example.org/introspect"
client_id = "mailnode"
client_secret_file = "/etc/mailnode/secret"
issuer = "https://login.example.org"
audience = "mail"
name_claim = "upn"
scope = "smtp"

[submission]
recipients = 50
mails_per_hour = 0
add_from = true
bare_newlines = "refuse"
future_release = "1d"

[[domain]]
name = "Bücher.example"
maildir = "/srv/mail/{{domain}}/{{local_part}}"
catch_all = "joe@bücher.example"
subaddress_separator = "-"
quota = "1G"

[[account]]
address = "joe@Bücher.example"
password = "{HASH}"
quota = 4096

[[alias]]
address = "sales@bücher.example"
to = ["joe@bücher.example", '"ann b"@elsewhere.example']

[[route]]
domain = ".partner.example"
next_hop = "[IPv6:2001:db8::1]:2525"

[limits]
message_size = "10M"
connections = 7
command_time = "90s"
policy_time = 1.5
mails_per_session = 0

[resolver]
servers = ["127.0.0.1:5353", "::1", "[::1]:54", "192.0.2.53"]

[queue]
retry = ["1m", 90, "1.5h"]
lifetime = "2d"

[delivery]
quota_reply = 552
sync = "fsync"

[log]
path = "-"

[[policy]]
name = "greylist"
delay = "5m"
nested = {{ a = 1 }}
"""


def problems(text: str) -> list[Problem]:
    """All that is wrong with a text."""
    try:
        parse(text)
    except SettingsError as error:
        return error.problems
    return []


class WholeFileTests(SynchronousTestCase):
    """A right file."""

    def test_every_section(self) -> None:
        """Every key of a whole file arrives as a value."""
        settings = parse(WHOLE, Path("/base"))
        joe = Address("joe", "bücher.example")
        self.assertEqual(settings.hostname, "mx.example.org")
        self.assertEqual(settings.state_dir, Path("/base/state"))
        wanted = tuple(ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32", "127.0.0.1/32"))
        self.assertEqual(settings.relay_from, wanted)
        self.assertEqual([listener.kind for listener in settings.listeners], ["mx", "submission"])
        self.assertEqual(settings.listeners[1].endpoint, "tcp6:2587:interface=\\:\\:1")
        listener = settings.listeners[1]
        self.assertEqual((listener.tls, len(listener.proxy_from)), ("implicit", 2))
        self.assertEqual(listener.xclient_from, (ip_network("10.1.2.3"),))
        self.assertEqual([one.key for one in settings.certificates], [None, "/etc/ssl/example.key"])
        tls, oauth, submission = settings.tls, settings.oauth, settings.submission
        self.assertEqual((tls.minimum, tls.tickets, tls.handshake_time), ("1.3", False, 10.0))
        self.assertEqual((tls.client_ca, tls.trusted), ("/etc/mailnode/clients.pem", "/etc/mailnode/roots.pem"))
        self.assertEqual(settings.authentication.mechanisms, ("EXTERNAL", "PLAIN"))
        self.assertEqual(settings.authentication.checkers[1], "file:/etc/mailnode/passwd")
        self.assertEqual((oauth.jwks, oauth.audience, oauth.name_claim), ("/etc/mailnode/jwks.json", "mail", "upn"))
        self.assertEqual((submission.bare_newlines, submission.future_release), ("refuse", 86400.0))
        (domain,) = settings.domains
        self.assertEqual((domain.name, domain.catch_all), ("xn--bcher-kva.example", joe))
        self.assertEqual((domain.subaddress_separator, domain.quota), ("-", 1 << 30))
        self.assertEqual(settings.accounts, (Account(address=joe, password=HASH, quota=4096),))
        self.assertEqual(settings.aliases[0].to, (joe, Address("ann b", "elsewhere.example")))
        self.assertEqual(settings.routes[0].next_hop, "[IPv6:2001:db8::1]:2525")
        self.assertEqual((settings.limits.message_size, settings.limits.connections), (10 << 20, 7))
        self.assertEqual((settings.limits.command_time, settings.limits.policy_time), (90.0, 1.5))
        self.assertEqual(settings.limits.recipients, 1000)
        servers = (("127.0.0.1", 5353), ("::1", 53), ("::1", 54), ("192.0.2.53", 53))
        self.assertEqual(settings.resolver.servers, servers)
        self.assertEqual(settings.queue.retry, (60.0, 90.0, 5400.0))
        self.assertEqual(settings.queue.lifetime, 172800.0)
        self.assertEqual((settings.delivery.quota_reply, settings.delivery.sync), (552, "fsync"))
        self.assertEqual(settings.log.path, "-")
        self.assertEqual(settings.policies[0].name, "greylist")
        self.assertEqual(settings.policies[0].options, {"delay": "5m", "nested": {"a": 1}})

    def test_defaults(self) -> None:
        """A short file gets the documented defaults."""
        settings = parse(BASE)
        self.assertEqual(settings.state_dir, Path.cwd() / "var")
        self.assertEqual(settings.limits, Limits())
        self.assertEqual(settings.limits.message_size, 50 * 1024 * 1024)
        self.assertEqual(settings.queue.retry, (60, 300, 900, 3600, 7200, 14400, 28800))
        self.assertEqual(settings.domains[0].maildir, "mail/{domain}/{local_part}")
        self.assertEqual(settings.listeners[0].tls, "starttls")
        self.assertEqual((settings.listeners[0].proxy_from, settings.listeners[0].xclient_from), ((), ()))
        self.assertEqual((settings.tls.minimum, settings.tls.client_ca, settings.certificates), ("1.2", None, ()))
        self.assertEqual((settings.authentication.checkers, settings.oauth.jwks), (("accounts",), None))
        self.assertEqual((settings.submission.recipients, settings.submission.add_from), (200, False))

    def test_frozen(self) -> None:
        """Settings cannot be changed once they are made."""
        with self.assertRaises(ValidationError):
            parse(BASE).limits.connections = 1

    def test_development(self) -> None:
        """Without a file one domain and one account are there, and only this machine reaches the listeners."""
        settings = development(Path("/state"))
        self.assertEqual(settings.state_dir, Path("/state"))
        self.assertEqual(
            [(one.kind, one.endpoint, one.tls) for one in settings.listeners],
            [
                ("mx", "tcp:2525:interface=127.0.0.1", "starttls"),
                ("submission", "tcp:2587:interface=127.0.0.1", "starttls"),
                ("submission", "tcp:2465:interface=127.0.0.1", "implicit"),
            ],
        )
        self.assertEqual([(str(one.address), one.password) for one in settings.accounts], [("demo@mail.test", None)])
        self.assertEqual(settings.domains[0].name, "mail.test")

    def test_made_by_a_program(self) -> None:
        """Programs make settings from values, by the attributes' names."""
        policy = PolicySettings(name="x", options={"a": 1})
        settings = Settings(hostname="[192.0.2.1]", limits=Limits(message_size=1000), policies=(policy,))
        self.assertEqual((settings.hostname, settings.limits.message_size), ("[192.0.2.1]", 1000))
        self.assertEqual(settings.policies[0].options, {"a": 1})

    def test_attribute_names_are_no_keys(self) -> None:
        """The file's key is ``listener``; ``listeners`` is unknown and the right key is suggested."""
        (problem, *_) = problems(BASE + "[[listeners]]\nkind = 'mx'\n")
        self.assertEqual((problem.path, problem.hint), ("listeners", "did you mean 'listener'?"))

    def test_light(self) -> None:
        """Importing the settings imports no reactor."""
        code = (
            "import sys, twisted_mail_node.settings; "
            "print([name for name in sys.modules if name.startswith('twisted.internet')])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual(done.stdout.strip(), "[]")


class ManyProblemsTests(SynchronousTestCase):
    """A wrong file: everything is told at once."""

    WRONG = dedent("""
        hostnam = "mx.example.org"
        workers = 4
        relay_from = ["0.0.0.0/0", "10.0.0.1/8"]
        [[listener]]
        kind = "mx"
        endpoint = "tcp:2525"
        [[listener]]
        kind = "submision"
        endpoint = "tcp:99999"
        tls = "startls"
        [[domain]]
        name = "example.org"
        [[account]]
        address = "joe@exmaple.org"
        password = "sentinel-one"
        pasword = "sentinel-two"
        [limits]
        message_size = "50MB"
        command_tme = "5m"
        [queue]
        retry = []
        [[policy]]
        delay = 5
        """)

    def test_all_at_once(self) -> None:
        """Each problem names its key, and what could not be right between the tables is told as well."""
        found = {problem.path: problem for problem in problems(self.WRONG)}
        self.assertEqual(
            set(found),
            {
                "hostname",
                "hostnam",
                "workers",
                "relay_from[1]",
                "relay_from[2]",
                "listener[2].kind",
                "listener[2].endpoint",
                "listener[2].tls",
                "account[1].address",
                "account[1].password",
                "account[1].pasword",
                "limits.message_size",
                "limits.command_tme",
                "queue.retry",
                "policy[1].name",
            },
        )
        self.assertEqual(found["hostnam"].hint, "did you mean 'hostname'?")
        self.assertEqual(found["listener[2].kind"].hint, "did you mean 'submission'?")
        self.assertEqual(found["listener[2].kind"].holds, "'submision'")
        self.assertEqual(found["listener[2].kind"].allowed, '"mx" or "submission"')
        self.assertEqual(found["listener[2].tls"].hint, "did you mean 'starttls'?")
        self.assertIn("not available in this version", found["workers"].allowed)
        self.assertEqual(found["relay_from[2]"].hint, "did you mean '10.0.0.0/8'?")
        self.assertIn("open relay", found["relay_from[1]"].hint)
        self.assertEqual(found["account[1].address"].hint, "did you mean 'example.org'?")
        self.assertEqual(found["account[1].pasword"].hint, "did you mean 'password'?")
        self.assertEqual(found["limits.message_size"].hint, "did you mean '50M'?")
        self.assertEqual(found["limits.command_tme"].hint, "did you mean 'command_time'?")

    def test_readable(self) -> None:
        """The error's text has a line for each problem, and no password."""
        with self.assertRaises(SettingsError) as caught:
            parse(self.WRONG)
        lines = str(caught.exception).split("\n")
        self.assertEqual(lines[0], "The settings: 15 problems")
        self.assertEqual(len(lines), 16)
        self.assertIn(
            "  listener[2].kind holds 'submision'. Allowed: \"mx\" or \"submission\". Did you mean 'submission'?", lines
        )
        self.assertNotIn("sentinel", str(caught.exception))
        self.assertNotIn("sentinel", repr(caught.exception.problems))

    def test_secrets_in_the_wrong_place(self) -> None:
        """No value is shown where a password may have slipped."""
        for text in ("account = 'sentinel'", "[account]\npassword = 'sentinel'", "[[acount]]\npassword = 'sentinel'"):
            self.assertNotIn("sentinel", str(SettingsError(problems(text))))

    def test_nothing_reaches_the_terminal(self) -> None:
        """Escapes, bidi marks and line ends of a value are not in the message."""
        text = str(SettingsError(problems('hostname = "a\\u001b[31m\\u202e\\nb"\n"k\\u001b\\nx" = 1')))
        self.assertTrue(all(char.isprintable() or char == "\n" for char in text))
        self.assertEqual(len(text.split("\n")), 4)


class ProblemCase(SynchronousTestCase):
    """Says what is wrong with a text."""

    def one(self, text: str, path: str) -> Problem:
        """The only problem of a text, which must be at ``path``."""
        (problem,) = problems(text)
        self.assertEqual(problem.path, path)
        return problem


class OneProblemTests(ProblemCase):
    """Single things that are wrong."""

    def test_top_level_key_inside_a_table(self) -> None:
        """A key of the top that stands below a table is told where it belongs."""
        problem = self.one(BASE + 'state_dir = "x"', "domain[1].state_dir")
        self.assertIn("top of the file", problem.hint)

    def test_single_brackets(self) -> None:
        """``[listener]`` is told to take double brackets."""
        problem = self.one('hostname = "a"\n[listener]\nkind = "mx"', "listener")
        self.assertEqual(problem.allowed, "[[listener]] tables, with double brackets")

    def test_double_brackets(self) -> None:
        """``[[limits]]`` is told to take single brackets."""
        self.assertEqual(self.one(BASE + "[[limits]]\nhops = 1", "limits").allowed, "a [limits] table")

    def test_no_listener(self) -> None:
        """A node that listens nowhere is refused."""
        self.assertEqual(self.one('hostname = "a"', "listener").holds, "nothing, but is needed")

    def test_domain_twice(self) -> None:
        """A domain may be there once, however it is spelled."""
        problem = self.one(BASE + '[[domain]]\nname = "EXAMPLE.org"', "domain[2].name")
        self.assertIn("domain[1] has already", problem.holds)

    def test_account_twice(self) -> None:
        """An account may be there once."""
        account = '[[account]]\naddress = "joe@example.org"\n'
        self.one(BASE + account + account, "account[2].address")

    def test_alias_twice(self) -> None:
        """An alias may be there once."""
        alias = '[[alias]]\naddress = "joe@example.org"\nto = ["x@example.com"]\n'
        self.one(BASE + alias + alias, "alias[2].address")

    def test_endpoint_twice(self) -> None:
        """Two listeners cannot have one endpoint."""
        self.one(BASE + '[[listener]]\nkind = "mx"\nendpoint = "tcp:2525"', "listener[2].endpoint")

    def test_alias_not_local(self) -> None:
        """An alias is in a local domain."""
        self.one(BASE + '[[alias]]\naddress = "a@b.example"\nto = ["x@example.com"]', "alias[1].address")

    def test_catch_all_elsewhere(self) -> None:
        """A catch-all is in a local domain: a slip would send all mail of guessed addresses to strangers."""
        problem = self.one(BASE + 'catch_all = "joe@exmaple.org"', "domain[1].catch_all")
        self.assertEqual(problem.hint, "did you mean 'example.org'?")

    def test_shared_maildirs(self) -> None:
        """Mailboxes of two domains are never the same directory."""
        text = BASE + 'maildir = "mail/{local_part}"\n[[domain]]\nname = "b.example"\nmaildir = "mail/{local_part}"'
        self.one(text, "domain[2].maildir")

    def test_maildir(self) -> None:
        """A template without a local-part, with ``..`` or with unknown names is refused."""
        for template in (
            "mail",
            "../{local_part}",
            "a/../{local_part}",
            "{user}/{local_part}",
            "{local_part",
            "{0}",
            "",
        ):
            self.one(BASE + f'maildir = "{template}"', "domain[1].maildir")

    def test_alias_loop(self) -> None:
        """Aliases in a circle are told once, with the way round."""
        text = BASE + "".join(
            f'[[alias]]\naddress = "{a}@example.org"\nto = ["{b}@example.org"]\n' for a, b in ("ab", "bc", "ca", "da")
        )
        problem = self.one(text, "alias[1].to")
        self.assertEqual(
            problem.holds, "an alias loop: a@example.org to b@example.org to c@example.org to a@example.org"
        )

    def test_copy_is_no_loop(self) -> None:
        """An alias that names itself keeps a copy in the account of that name."""
        alias = '[[alias]]\naddress = "joe@example.org"\nto = ["Joe@example.org", "joe@example.com"]\n'
        self.assertEqual(problems(BASE + alias), [])

    def test_long_chain(self) -> None:
        """Ten aliases may stand one behind the other, eleven may not."""
        chain = [f'[[alias]]\naddress = "a{n}@example.org"\nto = ["a{n + 1}@example.org"]\n' for n in range(11)]
        self.assertEqual(problems(BASE + "".join(chain[1:])), [])
        self.one(BASE + "".join(chain), "alias[1].to")
        self.one(BASE + "".join(reversed(chain)), "alias[11].to")

    def test_values(self) -> None:
        """Each of these values is wrong for its key."""
        wrong = {
            "limits.connections": ["0", "-1", "true", '"5"', "1.5", "[]"],
            "limits.mails_per_session": ["-1", "false", '"x"'],
            "limits.message_size": ["0", "-5", '"5X"', '"-5M"', "true", "1.5", '"9999999999T"'],
            "limits.command_time": ["0", "-1", '"0s"', '"5y"', "true", "inf", "nan", '"-5m"', '"20000d"'],
            "queue.retry": ['"5m"', "5", "{}"],
            "queue.retry[2]": ['["5m", "0s"]', '["5m", []]'],
            "resolver.servers[1]": ['["localhost:53"]', '["127.0.0.1:0"]', '["[::1]:99999"]', "[53]", '["[::1"]'],
            "queue.loopback_exchangers": ["1", '"true"'],
            "delivery.quota_reply": ["550", '"452"', "true"],
            "delivery.sync": ['"fsyncs"', "1"],
            "log.path": ['""', '"a\\u0000b"', "1"],
        }
        for path, values in wrong.items():
            table, key = path.split(".")
            for value in values:
                self.one(BASE + f"[{table}]\n{key.partition('[')[0]} = {value}\n", path)

    def test_hostname(self) -> None:
        """A host name is a domain name or an address literal."""
        rest = BASE.split("\n", 2)[2]
        for wrong in ("", "a b", "-a.example", "a..b", "[192.0.2]", "[IPv6:x]", "a_b.example", "x" * 64 + ".example"):
            self.one(f'hostname = "{wrong}"\n{rest}', "hostname")
        self.assertEqual(
            self.one(f'hostname = "MX.example.org."\n{rest}', "hostname").hint, "did you mean 'mx.example.org'?"
        )
        self.assertEqual(parse(f'hostname = "[IPv6:2001:DB8::0:1]"\n{rest}').hostname, "[IPv6:2001:db8::1]")

    def test_password(self) -> None:
        """A password is a hash of the one known kind."""
        for wrong in ("hush", HASH.replace("argon2id", "argon2i"), HASH + "=", ""):
            self.one(BASE + f'[[account]]\naddress = "a@example.org"\npassword = "{wrong}"', "account[1].password")

    def test_older_password(self) -> None:
        """Hashes of older systems are taken, unless comparing with one would take seconds."""
        digest = "./Az09" * 15
        hashes = {
            "$2y$12$" + digest[:53]: "$2y$31$" + digest[:53],
            "$5$salt$" + digest[:43]: "$5$rounds=1000001$salt$" + digest[:43],
            "$6$rounds=656000$salt$" + digest[:86]: "$6$rounds=999999999$salt$" + digest[:86],
            HASH: HASH.replace("m=19456,t=2", "m=524288,t=5"),
            HASH.replace("m=19456,t=2", "m=524288,t=4"): HASH.replace("m=19456,t=2", "m=1048576,t=1"),
        }
        for right, heavy in hashes.items():
            table = BASE + '[[account]]\naddress = "a@example.org"\npassword = "{}"'
            self.assertEqual(parse(table.format(right)).accounts[0].password, right)
            problem = self.one(table.format(heavy), "account[1].password")
            self.assertIn("too much work", problem.hint)
            self.assertNotIn(heavy, str(problem))
        for wrong in ("$5$salt$" + digest[:86], "$6$salt$" + digest[:43], "$2b$03$" + digest[:53], "{SSHA}" + "A" * 24,
                      "{SSHA}" + "A" * 29, "{SSHA512}" + "A" * 40, "$argon2id$v=19$m=0,t=0,p=0$" + digest[:43],
                      "$1$salt$abc", "{CRYPT}x"):  # fmt: skip
            self.one(BASE + f'[[account]]\naddress = "a@example.org"\npassword = "{wrong}"', "account[1].password")

    def test_scram(self) -> None:
        """Keys for SCRAM are those of one mechanism, whole, and of an iteration count a phone can bear."""
        table = BASE + '[[account]]\naddress = "a@example.org"\nscram = "{}"'
        keys = "$" + "A" * 43 + "=:" + "A" * 43 + "="
        for right in ("SCRAM-SHA-256$4096:AAAAAAAA" + keys, "SCRAM-SHA-256$1000000:AAAAAAAAAA==" + keys):
            self.assertEqual(parse(table.format(right)).accounts[0].scram, right)
        for wrong in ("SCRAM-SHA-256$1000001:AAAAAAAA" + keys, "SCRAM-SHA-256$999:AAAAAAAA" + keys,
                      "SCRAM-SHA-256$4096:AAAAAAAAA" + keys, "SCRAM-SHA-1$4096:AAAAAAAA" + keys, "hush"):  # fmt: skip
            problem = self.one(table.format(wrong), "account[1].scram")
            self.assertNotIn(wrong, str(problem))

    def test_route(self) -> None:
        """A rule's domain and next hop are checked, with the likely meaning."""
        problem = self.one(BASE + '[[route]]\ndomain = "*.a.example"\nnext_hop = "b.example"', "route[1].domain")
        self.assertEqual(problem.hint, "did you mean '.a.example'?")
        problem = self.one(BASE + '[[route]]\ndomain = "*"\nnext_hop = "192.0.2.7:25"', "route[1].next_hop")
        self.assertEqual(problem.hint, "did you mean '[192.0.2.7]:25'?")

    def test_endpoints(self) -> None:
        """Endpoints are what Twisted reads; the hint says which part is wrong."""
        right = [
            "tcp:0", "tcp:port=25", "tcp:25:127.0.0.1", "tcp:25:interface=0.0.0.0:backlog=5", r"tcp6:25:interface=\:\:",
            "unix:/run/a:mode=660", r"unix:/run/a\=b:lockfile=0", "systemd:domain=INET:name=smtp",
            "systemd:INET6:index=0",
        ]  # fmt: skip
        for text in right:
            if not text.startswith("systemd"):
                self.assertTrue(serverFromString(MemoryReactor(), text))
            self.assertEqual(
                parse(BASE.replace("'", "").replace('"tcp:2525"', f"'{text}'")).listeners[0].endpoint, text
            )
        wrong = {
            "2525": "did you mean 'tcp:2525'?",
            "tpc:25": "did you mean 'tcp'?",
            "tcp": "its port is missing",
            "tcp:": "its port must be a number from 0 to 65535 (0: any free port)",
            "tcp:smtp": "its port must be a number from 0 to 65535 (0: any free port)",
            "tcp:25:interfce=127.0.0.1": "did you mean 'interface'?",
            "tcp:25:interface=localhost": "its interface must be an IPv4 address; for IPv6 use tcp6",
            "tcp:25:port=26": "'port' is given twice",
            "tcp:port=25:port=26": "'port' is given twice",
            "tcp6:25:5:::1": "'tcp6' takes at most 3 parameters; write the colons of a value as \\:",
            "unix:a:mode=rw": "its mode must be an octal mode such as 660",
            "systemd:domain=INET": "'systemd' needs one of index and name",
            "ssl:465": 'write the endpoint with tcp, and tls = "implicit" beside it',
            "tcp:25\\": "it ends in a lone backslash",
            "": "",
        }
        for text, hint in wrong.items():
            problem = self.one(BASE.replace('"tcp:2525"', f"'{text}'"), "listener[1].endpoint")
            self.assertEqual(problem.hint, hint, text)


class FileTests(SynchronousTestCase):
    """The file itself."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = Path(place.name) / "settings.toml"

    def error(self) -> SettingsError:
        """What loading the file raises."""
        with self.assertRaises(SettingsError) as caught:
            load(self.path)
        self.assertEqual(caught.exception.source, str(self.path))
        error: SettingsError = caught.exception
        return error

    def test_load(self) -> None:
        """A file is read as UTF-8, with a byte order mark or without."""
        self.path.write_text(BASE, "utf-8-sig")
        self.assertEqual(load(str(self.path)).hostname, "mx.example.org")

    def test_missing(self) -> None:
        """A missing file is one sentence."""
        self.assertEqual(
            str(self.error()),
            f"{self.path}: one problem\n  {self.path} holds nothing: there is no such file. "
            "Allowed: a settings file in TOML, readable for this user.",
        )

    def test_directory(self) -> None:
        """A directory is one sentence."""
        self.path.mkdir()
        self.assertIn("a directory", str(self.error()))

    def test_unreadable(self) -> None:
        """A file without permission is one sentence."""
        self.path.write_text(BASE)
        self.path.chmod(0)
        if os.access(self.path, os.R_OK):
            self.path.unlink()
            self.path.symlink_to(self.path.name)
        self.assertRegex(str(self.error()), "may not read|cannot|can be read")

    def test_not_utf8(self) -> None:
        """Octets that are not UTF-8 are told with their line."""
        self.path.write_bytes(b"# one\n# two\nhostname = '\xff'\n")
        self.assertEqual(self.error().problems[0].path, f"{self.path}, line 3")

    def test_syntax(self) -> None:
        """TOML's own errors come with line and column."""
        self.path.write_text('hostname = "a"\n[[listener]\n')
        (problem,) = self.error().problems
        self.assertRegex(problem.path, r"settings.toml, line 2, column 1\d$")
        self.assertIn("not TOML", problem.holds)

    def test_monsters(self) -> None:
        """Numbers without end and brackets without end are one sentence, not a traceback."""
        for text in ("a = " + "9" * 10_000, "a = " + "[" * 50_000, "a = " + "{b=" * 50_000):
            self.path.write_text(text)
            self.assertEqual(len(self.error().problems), 1)

    def test_every_cut(self) -> None:
        """A truncated file gives settings or SettingsError, and nothing else, at whatever octet it ends."""
        octets = WHOLE.encode()
        outcomes = set()
        for end in range(0, len(octets), 7):
            self.path.write_bytes(octets[:end])
            try:
                load(self.path)
                outcomes.add("settings")
            except SettingsError as error:
                self.assertTrue(error.problems)
                outcomes.add("problems")
        self.assertEqual(outcomes, {"settings", "problems"})


class SpellingTests(SynchronousTestCase):
    """Sizes and durations."""

    @given(st.integers(1, settings_spelling.SIZE_MAX))
    def test_sizes(self, octets: int) -> None:
        """Every size is read back from its shortest spelling."""
        self.assertEqual(settings_spelling.size(settings_spelling.spell_size(octets)), octets)

    @given(st.integers(1, int(settings_spelling.DURATION_MAX)))
    def test_durations(self, seconds: int) -> None:
        """Every duration of whole seconds is read back from its shortest spelling."""
        self.assertEqual(settings_spelling.duration(settings_spelling.spell_duration(seconds)), seconds)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
    def test_anything(self, value: object) -> None:
        """No value makes a reader raise anything but ValueError."""
        for read in (
            settings_spelling.count,
            settings_spelling.size,
            settings_spelling.duration,
            settings_spelling.address,
            settings_spelling.hostname,
            settings_spelling.network,
            settings_spelling.server,
            settings_spelling.maildir,
            settings_spelling.path,
            settings_spelling.password_hash,
        ):
            try:
                self.assertIsNotNone(read(value))
            except ValueError as error:
                self.assertTrue(str(error))


class DocumentTests(SynchronousTestCase):
    """``docs/settings.rst``."""

    def test_generated(self) -> None:
        """The page in the tree is the generated one."""
        page = Path(__file__).parent.parent / "docs" / "settings.rst"
        again = "run: python -m twisted_mail_node.settings_docs > docs/settings.rst"
        self.assertEqual(page.read_text("utf-8"), settings_docs.page(), again)

    def test_example(self) -> None:
        """The page's example is right."""
        self.assertEqual(parse(settings_docs.EXAMPLE).hostname, "mx.example.org")

    def test_complete(self) -> None:
        """Every field has a sentence, and its default is spelled as the file would have it."""
        page = settings_docs.page()
        for key in ("message_size", "next_hop", "catch_all", "retry", "sync"):
            self.assertIn(f"``{key}``", page)
        self.assertIn('Default: ``["1m", "5m", "15m", "1h", "2h", "4h", "8h"]``.', page)
        self.assertIn('Default: ``"50M"``.', page)
        self.assertNotIn("None", page)
