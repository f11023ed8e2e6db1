"""What must fit together in the settings of TLS, signing in and listeners, and what is odd but possible."""

from __future__ import annotations

from tests.test_settings import BASE, WHOLE, ProblemCase, problems
from twisted_mail_node.settings import development, parse
from twisted_mail_node.settings_checks_security import notes


class SecurityTests(ProblemCase):
    """TLS, signing in, and who may speak for others."""

    def test_paths_and_texts(self) -> None:
        """Keys that need not be there are checked like any other where they are."""
        for path, value in (
            ("tls.client_ca", "5"), ("tls.trusted", '""'), ("tls.minimum", '"1.1"'), ("tls.handshake_time", '"0s"'),
            ("oauth.issuer", '""'), ("oauth.scope", '"a\\nb"'), ("submission.future_release", '"20000d"'),
            ("authentication.mechanisms[1]", '["CRAM-MD5"]'), ("authentication.checkers", "[]"),
        ):  # fmt: skip
            table, key = path.split(".")
            more = "jwks = 'a'\naudience = 'b'\n" if table == "oauth" else ""
            self.one(BASE + f"[{table}]\n{more}{key.partition('[')[0]} = {value}\n", path)
        for url in ("http://login.example.org/x", "https://", "ftp://x", "https://user:secret@login.example.org/"):
            problem = self.one(BASE + f'[oauth]\nintrospection = "{url}"', "oauth.introspection")
            self.assertIn("https: URL", problem.allowed)

    def test_oauth(self) -> None:
        """[oauth] says how tokens are checked, for whom they are, and what the introspection needs."""
        self.one(BASE + '[oauth]\nissuer = "x"', "oauth")
        self.one(BASE + '[oauth]\njwks = "x"', "oauth.audience")
        jwks = BASE + '[oauth]\njwks = "x"\naudience = "y"\n'
        self.assertEqual(problems(jwks), [])
        self.one(jwks + 'client_id = "x"', "oauth.client_id")
        introspection = BASE + '[oauth]\nintrospection = "http://127.0.0.1:8080/i"\n'
        self.assertEqual(problems(introspection), [])
        self.one(introspection + 'client_id = "x"', "oauth.client_secret_file")
        self.one(introspection + 'client_secret_file = "x"', "oauth.client_id")
        self.assertEqual(problems(introspection + 'client_id = "x"\nclient_secret_file = "y"'), [])

    def test_mechanisms(self) -> None:
        """Mechanisms of which none could be offered are a slip; one that cannot beside others is not."""
        text = BASE + '[authentication]\nmechanisms = ["{}"]\n'
        path = "authentication.mechanisms"
        self.assertIn("client_ca in [tls]", self.one(text.format("EXTERNAL"), path).allowed)
        both = self.one(text.format('EXTERNAL", "XOAUTH2'), path).allowed
        self.assertIn("client_ca in [tls] and jwks or introspection in [oauth]", both)
        self.assertIn("OAUTHBEARER twice", self.one(text.format('OAUTHBEARER", "PLAIN", "OAUTHBEARER'), path).holds)
        for fine in (
            text.format('EXTERNAL", "PLAIN'),
            text.format("EXTERNAL") + '[tls]\nclient_ca = "x"',
            text.format("OAUTHBEARER") + '[oauth]\nintrospection = "https://a.example/"',
            BASE + "[authentication]\nmechanisms = []",
        ):
            self.assertEqual(problems(fine), [])

    def test_certificate_twice(self) -> None:
        """A certificate is named once."""
        self.one(BASE + '[[certificate]]\nchain = "a"\n[[certificate]]\nchain = "a"\nkey = "b"', "certificate[2].chain")

    def test_peers(self) -> None:
        """Networks are for peers that have addresses, and never the whole Internet."""
        for key in ("proxy_from", "xclient_from"):
            for endpoint in ("unix:/run/mail.sock", "systemd:domain=UNIX:name=smtp"):
                text = BASE.replace("tcp:2525", endpoint).replace("[[domain]]", f'{key} = ["10.0.0.1"]\n[[domain]]')
                self.one(text, f"listener[1].{key}")
            self.one(BASE.replace("[[domain]]", f'{key} = ["0.0.0.0/0"]\n[[domain]]'), f"listener[1].{key}[1]")

    def test_wrong_tables_are_told_once(self) -> None:
        """What hangs on a table that is wrong by itself is not guessed at."""
        self.one(BASE + '[authentication]\nmechanisms = ["EXTERNAL"]\n[tls]\nclient_ca = 5', "tls.client_ca")

    def test_notes(self) -> None:
        """What is possible and seldom meant is a note."""
        self.assertEqual(list(notes(parse(WHOLE))) + list(notes(development())), [])
        submission = BASE.replace('"mx"', '"submission"\ntls = "none"')
        (note,) = notes(parse(submission))
        self.assertIn("nobody can sign in there, and relay_from is empty", note)
        (note,) = notes(parse('relay_from = ["10.0.0.0/8"]\n' + submission))
        self.assertIn("only clients in relay_from may send", note)
        (note,) = notes(parse(BASE.replace('"mx"', '"mx"\ntls = "implicit"')))
        self.assertIn("listener[1] takes mail from other servers with TLS from the first octet", note)
        none = BASE.replace('"mx"', '"submission"') + "[authentication]\nmechanisms = []"
        self.assertEqual(len(list(notes(parse(none)))), 1)

    def test_resolver(self) -> None:
        """A resolver on this machine that is not said to be trusted means no DANE, which few want; any other may."""
        text = BASE + '[resolver]\nservers = ["127.0.0.1:5353", "::1"]\n'
        (note,) = notes(parse(text))
        self.assertIn("resolver.trusted is false", note)
        for fine in (text + "trusted = true\n", text.replace("::1", "192.0.2.53"), BASE):
            self.assertEqual(list(notes(parse(fine))), [])
