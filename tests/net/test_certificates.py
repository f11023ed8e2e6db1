"""Tests of twisted_mail_node.net.certificates, tls_files, tls_names, tls_contexts and tls_selfsigned: which
certificates there are, which a client gets, and what happens when they change."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.net.authority import Authority, Issued, pem, rsa_key
from tests.net.loop import Loop
from twisted_mail_node.events import CertificatesLoaded, CertificatesRefused, Event
from twisted_mail_node.net import certificates, tls_openssl
from twisted_mail_node.net.certificates import LOOK, TICKET_KEYS_TIME, Certificates
from twisted_mail_node.net.tls import TlsSession
from twisted_mail_node.net.tls_files import FILE_MAX, key_problem
from twisted_mail_node.net.tls_names import look_up, names_of
from twisted_mail_node.net.tls_trust import Shown, note_chain
from twisted_mail_node.settings import Certificate, Domain, Settings, TlsSettings

DAY = 86400.0


class Threads(Loop):
    """Threads whose work is done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] | None = None

    def callInThreadWithCallback(self, fired: Any, function: Any, *args: Any) -> None:
        if self.waiting is None:
            super().callInThreadWithCallback(fired, function, *args)
        else:
            self.waiting.append((fired, function, args))

    def work(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting or [], None
        for fired, function, args in waiting:
            super().callInThreadWithCallback(fired, function, *args)


class CertificatesCase(SynchronousTestCase):
    """A state directory, and certificates made from it."""

    authority = Authority()

    def setUp(self) -> None:
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir(mode=0o700)
        self.tls = self.state / "tls"
        self.reactor = Threads()
        self.reactor.advance(datetime.now(UTC).timestamp())
        self.events: list[Event] = []

    def issue(self, *names: str, days: float = 90, **more: Any) -> Issued:
        """A certificate of the authority."""
        return self.authority.issue(*names, expires=datetime.now(UTC) + timedelta(days=days), **more)

    def settings(self, *certificates: Certificate, **more: Any) -> Settings:
        """Settings with these certificates."""
        tls = TlsSettings(**{key: more.pop(key) for key in list(more) if key in TlsSettings.model_fields})
        return Settings(
            hostname="mx.example.org", state_dir=self.state, certificates=certificates, tls=tls,
            domains=(Domain(name="example.org"), Domain(name="example.net")), **more,
        )  # fmt: skip

    def start(self, *certificates: Certificate, **more: Any) -> Certificates:
        """Read them."""
        made = Certificates(self.settings(*certificates, **more), self.reactor, self.events.append)
        made.start()
        self.addCleanup(made.stop)
        return made

    def refused(self, *certificates: Certificate, **more: Any) -> str:
        """Why they cannot be started with."""
        return str(self.assertRaises(ValueError, self.start, *certificates, **more))

    def said(self) -> list[str]:
        """The events' words since it was last asked: ``+`` loaded, ``-`` refused."""
        said = []
        for event in self.events:
            assert isinstance(event, (CertificatesLoaded, CertificatesRefused))
            said.append(("+ " if isinstance(event, CertificatesLoaded) else "- ") + event.words)
        self.events.clear()
        return said

    def look(self, times: int = 1) -> list[str]:
        """Let it look at the files; gives the events' words."""
        for _ in range(times):
            self.reactor.advance(LOOK)
        return self.said()

    def shown(
        self, certificates: Certificates, name: str = "", context: SSL.Context | None = None, show: Issued | None = None
    ) -> Any:
        """The client's connection after a handshake in memory; ``server`` is the server's."""
        if context is None:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if show is not None:
            context.use_certificate(show.certificate)
            context.use_privatekey(show.key)
            for one in show.above:
                context.add_extra_chain_cert(one)
        contexts = certificates._contexts
        assert contexts is not None
        client: SSL.Connection = SSL.Connection(context)
        server: SSL.Connection = contexts.connection(None)
        client.set_connect_state()
        if name:
            client.set_tlsext_host_name(name.encode())
        for _ in range(3):
            for speaker, hearer in ((client, server), (server, client)):
                try:
                    speaker.do_handshake()
                except SSL.WantReadError:
                    pass
                try:
                    hearer.bio_write(speaker.bio_read(1 << 16))
                except SSL.WantReadError:
                    pass
        shaken: Any = client
        shaken.server = server
        return shaken

    def given(self, certificates: Certificates, name: str = "", cipher: bytes = b"") -> Any:
        """The certificate that a client gets which asks for this name."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if cipher:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(cipher)
        return self.shown(certificates, name, context).get_peer_certificate(as_cryptography=True)


class FilesTests(CertificatesCase):
    """Where certificates lie."""

    def test_settings(self) -> None:
        """[[certificate]] names a file with both, or one for each; relative to state_dir, or absolute."""
        one, two = self.issue("mx.example.org"), self.issue("mail.example.org")
        one.put(self.state / "one.pem")
        elsewhere = Path(self.mktemp()).absolute()
        two.put_two(elsewhere / "chain", self.state / "two.key")
        made = self.start(Certificate(chain="one.pem"), Certificate(chain=str(elsewhere / "chain"), key="two.key"))
        self.assertEqual(self.given(made, "mx.example.org"), one.certificate)
        self.assertEqual(self.given(made, "mail.example.org"), two.certificate)
        (event,) = self.events
        assert isinstance(event, CertificatesLoaded)
        self.assertEqual((event.names, event.words), (("mx.example.org", "mail.example.org"), ""))
        self.assertEqual(event.expires, one.certificate.not_valid_after_utc.timestamp())

    def test_directory(self) -> None:
        """The directory holds NAME.pem, NAME.crt with NAME.key, and folders as certbot makes them; symbolic links are
        followed, other files are left alone."""
        issued = {name: self.issue(f"{name}.example.org") for name in "abc"}
        issued["a"].put(self.tls / "a.pem")
        issued["b"].put_two(self.tls / "b.crt", self.tls / "b.key")
        archive = self.state / "archive"
        issued["c"].put_two(archive / "fullchain1.pem", archive / "privkey1.pem")
        live = self.tls / "c.example.org"
        live.mkdir()
        (live / "fullchain.pem").symlink_to("../../archive/fullchain1.pem")
        (live / "privkey.pem").symlink_to("../../archive/privkey1.pem")
        (self.tls / "README").write_text("nothing")
        (self.tls / ".hidden.pem").write_text("nothing")
        (self.tls / "empty").mkdir()
        made = self.start()
        for name in "abc":
            self.assertEqual(self.given(made, f"{name}.example.org"), issued[name].certificate)
        self.assertEqual(self.said(), ["+ "])

    def test_chain(self) -> None:
        """Clients get what leads to the root, each certificate its own."""
        between = [Authority(name, self.authority) for name in "ab"]
        issued = [between[0].issue("mx.example.org"), between[1].issue("mx.example.org", key=rsa_key())]
        for number, one in enumerate(issued):
            one.put(self.tls / f"{number}.pem")
        made = self.start()
        for cipher, one in ((b"ECDHE-ECDSA-AES128-GCM-SHA256", issued[0]), (b"ECDHE-RSA-AES128-GCM-SHA256", issued[1])):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(cipher)
            chain = self.shown(made, "mx.example.org", context).get_peer_cert_chain(as_cryptography=True)
            self.assertEqual(chain, [one.certificate, *one.above])

    def test_key_modes(self) -> None:
        """A key that others may read is refused with the command to run; its group may read it (attack T40)."""
        path = self.issue("mx.example.org").put(self.state / "mx.pem")
        for mode in (0o644, 0o604, 0o660, 0o650, 0o601, 0o602):
            path.chmod(mode)
            self.assertEqual(
                self.refused(Certificate(chain="mx.pem")),
                f"{path} holds a private key, and others may use it (mode {mode:04o}): chmod 0600 {path}",
            )
        for mode in (0o600, 0o400, 0o640, 0o440):
            path.chmod(mode)
            self.start(Certificate(chain="mx.pem"))

    def test_key_owner(self) -> None:
        """A key must be root's or ours."""
        path = Path("key.pem")
        for owner, good in ((0, True), (1000, True), (1001, False)):
            status = os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, owner, 0, 10, 0, 0, 0))
            self.assertEqual(key_problem(path, status, 1000) == "", good, owner)
        self.assertIn("chown it to root or to user id 1000", key_problem(path, status, 1000))

    def test_broken(self) -> None:
        """What the settings name must be right when the node starts; the sentence names the file."""
        good, other = self.issue("mx.example.org"), self.issue("other.example")
        chain, key = self.state / "chain.pem", self.state / "key.pem"
        named = Certificate(chain="chain.pem", key="key.pem")
        good.put_two(chain, key)
        self.start(named)
        cases = (
            (b"", good.private, f"{chain} holds no certificate"),
            (good.chain[:-60], good.private, f"{chain} holds no certificate"),
            (good.chain * 21, good.private, "a chain has at most 20"),
            (b"x" * (FILE_MAX + 1), good.private, f"{chain} is larger than"),
            (good.chain, b"", f"{key} holds no private key"),
            (good.chain, good.private[:50], f"{key} holds no private key"),
            (good.chain, other.private, f"the key in {key} is not that of the first certificate in {chain}"),
            (good.chain, pem(good.key, b"secret"), f"the key in {key} is locked with a passphrase"),
        )
        for chain_octets, key_octets, words in cases:
            chain.write_bytes(chain_octets)
            key.write_bytes(key_octets)
            self.assertIn(words, self.refused(named))
        chain.unlink()
        self.assertEqual(self.refused(named), f"{chain} cannot be read: No such file or directory")

    def test_kinds(self) -> None:
        """A kind of key that TLS has no use for, or one that is too short, is refused with a sentence."""
        key = dsa.generate_private_key(2048)
        path = self.issue("mx.example.org").put(self.state / "mx.pem")
        odd = self.state / "odd.key"
        odd.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        odd.chmod(0o600)
        self.assertIn("take ECDSA (P-256) or RSA", self.refused(Certificate(chain="mx.pem", key="odd.key")))
        self.issue("mx.example.org", key=rsa_key(1, 1024)).put(path)
        self.assertEqual(self.refused(Certificate(chain="mx.pem")), f"{path} cannot be used in TLS: ee key too small")

    def test_broken_in_directory(self) -> None:
        """One that is broken in the directory is told, and the others are used."""
        good = self.issue("mx.example.org")
        good.put(self.tls / "good.pem")
        (self.tls / "bad.pem").write_text("nothing")
        (self.tls / "half.crt").write_bytes(good.chain)
        (self.tls / "folder").mkdir()
        (self.tls / "folder" / "privkey.pem").write_bytes(good.private)
        made = self.start()
        self.assertEqual(self.given(made), good.certificate)
        loaded, refused = self.said()
        self.assertEqual(loaded, "+ ")
        for words in (
            f"{self.tls}/bad.pem holds no certificate",
            f"{self.tls}/half.key is missing; {self.tls}/half.crt is there",
            f"{self.tls}/folder/fullchain.pem is missing",
        ):
            self.assertIn(words, refused)

    def test_no_secret(self) -> None:
        """No event, sentence or representation holds a key."""
        path = self.issue("mx.example.org").put(self.tls / "mx.pem")
        made = self.start()
        path.chmod(0o644)
        self.look(3)
        secret = path.read_text().split("PRIVATE KEY-----\n")[1][:30]
        self.assertNotIn(secret, repr((made, vars(made), made._pairs, self.events)))


class ChoiceTests(CertificatesCase):
    """Which certificate a client gets."""

    def test_names(self) -> None:
        """The one with the name asked for, in any case; else with a wildcard for its first label; else the host's."""
        mx, mail, wild = self.issue("mx.example.org"), self.issue("mail.example.org"), self.issue("*.example.org")
        for name, one in (("a", wild), ("b", mail), ("c", mx)):
            one.put(self.tls / f"{name}.pem")
        made = self.start()
        for name, one in (
            ("mail.example.org", mail), ("MAIL.example.org", mail), ("other.example.org", wild), ("mx.example.org", mx),
            ("a.b.example.org", mx), ("example.org", mx), ("unknown.example", mx), ("", mx),
        ):  # fmt: skip
            self.assertEqual(self.given(made, name), one.certificate, name)

    def test_first(self) -> None:
        """Without one for the host it is the first, in the settings' order."""
        one, two = self.issue("one.example"), self.issue("two.example")
        one.put(self.state / "one.pem")
        two.put(self.state / "two.pem")
        self.assertEqual(
            self.given(self.start(Certificate(chain="two.pem"), Certificate(chain="one.pem"))), two.certificate
        )

    def test_two_kinds(self) -> None:
        """ECDSA and RSA for one name: each client gets the one it can use."""
        first, second = self.issue("mx.example.org"), self.issue("mx.example.org", "mail.example.org", key=rsa_key())
        first.put(self.tls / "ec.pem")
        second.put(self.tls / "rsa.pem")
        made = self.start()
        for name in ("mx.example.org", ""):
            self.assertEqual(self.given(made, name), first.certificate)
            self.assertEqual(self.given(made, name, b"ECDHE-ECDSA-AES128-GCM-SHA256"), first.certificate)
            self.assertEqual(self.given(made, name, b"ECDHE-RSA-AES128-GCM-SHA256"), second.certificate)
        self.assertEqual(self.given(made, "mail.example.org"), second.certificate)

    def test_preference(self) -> None:
        """Of two of a kind for one name, the settings' counts, then the one that is good for longer; an expired one
        only when there is no other."""
        days = {"a": 40.0, "b": 80.0, "c": 60.0, "d": -5.0}
        issued = {name: self.issue("mx.example.org", days=left) for name, left in days.items()}
        for name, one in issued.items():
            one.put(self.tls / f"{name}.pem")
            one.put(self.state / f"{name}.pem")
        self.assertEqual(self.given(self.start()), issued["b"].certificate)
        self.assertEqual(self.given(self.start(Certificate(chain="a.pem"))), issued["a"].certificate)
        self.assertEqual(self.given(self.start(Certificate(chain="d.pem"))), issued["b"].certificate)

    def test_common_name(self) -> None:
        """Without a subjectAltName the CN is the name."""
        one, other = self.issue(cn="Old.example.org"), self.issue("mx.example.org")
        one.put(self.tls / "a.pem")
        other.put(self.tls / "b.pem")
        self.assertEqual(self.given(self.start(), "old.example.org"), one.certificate)

    def test_resumed_with_names(self) -> None:
        """A session is resumed whichever certificate SNI chose, with TLS 1.3 and 1.2."""
        for name in ("mx.example.org", "mail.example.org"):
            self.issue(name).put(self.tls / f"{name}.pem")
        made = self.start()
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            for name in ("mx.example.org", "mail.example.org"):
                first = self.shown(made, name, context)
                self.assertRaises(SSL.WantReadError, first.recv, 1)
                again = self.resume(made, name, context, first.get_session())
                self.assertTrue(tls_openssl.was_resumed(again), (version, name))
                self.assertFalse(tls_openssl.was_resumed(first))

    def resume(self, made: Certificates, name: str, context: SSL.Context, session: Any) -> Any:
        """A handshake that offers a session."""
        real = SSL.Connection.set_connect_state

        def offering(connection: SSL.Connection) -> None:
            real(connection)
            if connection.get_context() is context:
                connection.set_session(session)

        self.patch(SSL.Connection, "set_connect_state", offering)
        try:
            return self.shown(made, name, context)
        finally:
            self.patch(SSL.Connection, "set_connect_state", real)

    def test_look_up(self) -> None:
        """A wildcard stands for one whole label, the first."""
        known = {"a.example": 1, "*.example": 2, "*.b.example": 3}
        for name, found in (
            ("a.example", 1), ("A.Example.", 1), ("x.example", 2), ("x.b.example", 3), ("x.y.b.example", None),
            ("example", None), ("", None), (".example", 2), ("*.example", 2),
        ):  # fmt: skip
            self.assertEqual(look_up(name, known), found, name)


class SelfSignedTests(CertificatesCase):
    """Without any certificate."""

    def test_made(self) -> None:
        """The node makes one for its name and domains, that only it reads, and says once what to do."""
        made = self.start()
        path = self.state / "tls-self-signed.pem"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        certificate = self.given(made)
        (said,) = self.said()
        self.assertIn("there is no certificate yet: a self-signed one is used", said)
        self.assertIn("[[certificate]]", said)
        self.assertIsInstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        years = (certificate.not_valid_after_utc - datetime.now(UTC)).days / 365
        self.assertTrue(9.9 < years < 10.1)
        self.assertEqual(names_of(certificate), ("mx.example.org", "example.org", "example.net"))
        self.assertEqual(self.look(3), [])

    def test_kept(self) -> None:
        """It is the same after a restart; other names make a new one with the same key; so does its end."""
        certificate = self.given(self.start())
        self.assertEqual(self.given(self.start()), certificate)
        settings = self.settings().model_copy(update={"hostname": "mail.example.com"})
        made = Certificates(settings, self.reactor, self.events.append)
        made.start()
        self.addCleanup(made.stop)
        other = self.given(made)
        self.assertNotEqual(other, certificate)
        self.assertEqual(other.public_key(), certificate.public_key())
        self.reactor.advance(3640 * DAY)
        self.assertNotEqual(self.given(self.start()), certificate)

    def test_broken(self) -> None:
        """One that cannot be read is made anew."""
        path = self.state / "tls-self-signed.pem"
        path.write_text("nothing")
        self.start()
        self.assertIn("BEGIN CERTIFICATE", path.read_text())

    def test_not_written(self) -> None:
        """When it cannot be written, the node does not start."""
        (self.state / "tls-self-signed.new").mkdir()
        self.assertIn("tls-self-signed.pem cannot be written", self.refused())

    def test_replaced(self) -> None:
        """When a certificate comes, it is used from then on; when all go, the last stays until the next start."""
        made = self.start()
        own = self.given(made)
        self.said()
        issued = self.issue("mx.example.org")
        path = issued.put(self.tls / "mx.pem")
        self.assertEqual(self.look(), ["+ "])
        self.assertEqual(self.given(made), issued.certificate)
        path.unlink()
        self.assertEqual(self.look(), [])
        (refused,) = self.look()
        self.assertIn("no certificate is left", refused)
        self.assertEqual(self.given(made), issued.certificate)
        self.assertEqual(self.given(self.start()), own)


class ChangeTests(CertificatesCase):
    """Files and settings that change while the node runs."""

    def test_renewed(self) -> None:
        """A renewed certificate is used for the next connection; a connection under way goes on."""
        old, new = self.issue("mx.example.org"), self.issue("mx.example.org")
        path = old.put(self.tls / "mx.pem")
        made = self.start()
        under_way = self.shown(made)
        self.said()
        new.put(path)
        self.assertEqual(self.look(), ["+ "])
        self.assertEqual(self.given(made), new.certificate)
        under_way.send(b"EHLO")
        under_way.server.bio_write(under_way.bio_read(1000))
        self.assertEqual(under_way.server.recv(10), b"EHLO")
        self.assertEqual(self.look(5), [])

    def test_link_renewed(self) -> None:
        """So is one whose symbolic link leads elsewhere, as certbot does it."""
        old, new = self.issue("mx.example.org"), self.issue("mx.example.org")
        for number, one in enumerate((old, new)):
            one.put_two(self.state / f"chain{number}", self.state / f"key{number}")
        folder = self.tls / "mx"
        folder.mkdir(parents=True)
        made = None
        for number, one in enumerate((old, new)):
            for name, target in (("fullchain.pem", "chain"), ("privkey.pem", "key")):
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(self.state / f"{target}{number}")
            made = made or self.start()
            self.look()
            self.assertEqual(self.given(made), one.certificate)

    def test_half_written(self) -> None:
        """The chain is replaced, the key not yet: the old pair stays, without a word if the key follows soon."""
        old, new = self.issue("mx.example.org"), self.issue("mx.example.org")
        chain, key = self.tls / "mx.crt", self.tls / "mx.key"
        old.put_two(chain, key)
        made = self.start()
        self.said()
        chain.write_bytes(new.chain)
        self.assertEqual(self.look(), [])
        self.assertEqual(self.given(made), old.certificate)
        key.write_bytes(new.private)
        self.assertEqual(self.look(), ["+ "])
        self.assertEqual(self.given(made), new.certificate)

    def test_broken_later(self) -> None:
        """What stays broken is told once; the pair of before is used, other pairs are renewed, and it may heal."""
        old = self.issue("mx.example.org")
        path = old.put(self.state / "mx.pem")
        other = self.issue("mail.example.org")
        other.put(self.tls / "mail.pem")
        made = self.start(Certificate(chain="mx.pem"))
        self.said()
        path.chmod(0o644)
        renewed = self.issue("mail.example.org")
        renewed.put(self.tls / "mail.pem")
        self.assertEqual(self.look(), ["+ "])
        self.assertEqual(
            self.look(), [f"- {path} holds a private key, and others may use it (mode 0644): chmod 0600 {path}"]
        )
        contexts = made._contexts
        self.assertEqual(self.look(5), [])
        self.assertIs(made._contexts, contexts)  # and with them the keys of tickets
        self.assertEqual(self.given(made, "mx.example.org"), old.certificate)
        self.assertEqual(self.given(made, "mail.example.org"), renewed.certificate)
        path.chmod(0o600)
        self.assertEqual(self.look(3), [])
        path.unlink()
        self.assertIn("No such file", " ".join(self.look(3)))
        self.assertEqual(self.given(made, "mx.example.org"), old.certificate)

    def test_reload(self) -> None:
        """Other settings are taken at once; what they name and cannot be read is told at once, and not used."""
        one, two = self.issue("mx.example.org"), self.issue("mx.example.org")
        one.put(self.state / "one.pem")
        two.put(self.state / "two.pem")
        made = self.start(Certificate(chain="one.pem"))
        self.said()
        self.successResultOf(made.reload(self.settings(Certificate(chain="two.pem"), minimum="1.3")))
        self.assertEqual(self.said(), ["+ "])
        self.assertEqual(self.given(made), two.certificate)
        self.assertRaises(SSL.Error, self.shown, made, context=_at_most(SSL.TLS1_2_VERSION))
        self.successResultOf(made.reload(self.settings(Certificate(chain="three.pem"))))
        said = self.said()
        self.assertIn("three.pem cannot be read", said[-1])
        self.assertEqual(self.given(made), two.certificate)

    def test_reload_broken_authority(self) -> None:
        """client_ca that cannot be read: at the start the node does not start, later everything stays as it was."""
        self.assertIn("ca.pem cannot be read", self.refused(client_ca="ca.pem"))
        issued = self.issue("mx.example.org")
        issued.put(self.tls / "mx.pem")
        made = self.start()
        before = made._contexts
        self.said()
        self.successResultOf(made.reload(self.settings(client_ca="ca.pem")))
        (said,) = self.said()
        self.assertIn("ca.pem cannot be read", said)
        self.assertIs(made._contexts, before)

    def test_expired(self) -> None:
        """An expired certificate is used, and the operator told, every day."""
        path = self.issue("mx.example.org", days=10).put(self.tls / "mx.pem")
        made = self.start()
        self.assertEqual(self.said(), ["+ "])
        seen = []
        for _ in range(13):
            self.reactor.advance(TICKET_KEYS_TIME + 10)
            seen += self.said()
        self.assertRegex(seen[0], rf"^\+ {path} expires on \d{{4}}-\d\d-\d\d: renew it$")
        self.assertRegex(seen[-1], rf"^\+ {path} expired on \d{{4}}-\d\d-\d\d: renew it; it is used all the same$")
        self.assertTrue(8 <= len(seen) <= 11, seen)
        self.assertIsNotNone(self.given(made))

    def test_ticket_keys(self) -> None:
        """Contexts, and with them the keys of their tickets, live for a day."""
        self.issue("mx.example.org").put(self.tls / "mx.pem")
        made = self.start()
        before = made._contexts
        self.reactor.advance(TICKET_KEYS_TIME - 10)
        self.look()
        self.assertIs(made._contexts, before)
        self.reactor.advance(20)
        self.look()
        self.assertIsNot(made._contexts, before)

    def test_in_a_thread(self) -> None:
        """Looking, reading and making contexts happen in a thread, one after the other; a stopped one looks no more."""
        old, new = self.issue("mx.example.org"), self.issue("mx.example.org")
        path = old.put(self.tls / "mx.pem")
        made = self.start()
        new.put(path)
        self.reactor.waiting = []
        self.look(3)
        self.assertEqual(len(self.reactor.waiting), 1)
        again: Deferred[None] = made.reload(self.settings())
        self.assertNoResult(again)
        self.assertEqual(self.given(made), old.certificate)
        self.reactor.work()
        self.successResultOf(again)
        self.assertEqual(self.given(made), new.certificate)
        self.assertEqual(self.said(), ["+ "])
        made.stop()
        old.put(path)
        self.assertEqual(self.look(3), [])
        self.assertEqual(self.given(made), new.certificate)

    def test_look_that_breaks(self) -> None:
        """A look that breaks is logged, and the next one comes."""
        old, new = self.issue("mx.example.org"), self.issue("mx.example.org")
        path = old.put(self.tls / "mx.pem")
        made = self.start()
        new.put(path)
        real = certificates._read_changed

        def broken(*args: object) -> None:
            raise RuntimeError("no more files")

        self.patch(certificates, "_read_changed", broken)
        self.look()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.patch(certificates, "_read_changed", real)
        self.look()
        self.assertEqual(self.given(made), new.certificate)


class ClientCertificatesTests(CertificatesCase):
    """Clients that show a certificate (EXTERNAL)."""

    def session(self, made: Certificates, show: Issued | None, version: int = SSL.TLS1_3_VERSION) -> Any:
        """The server's session with a client that shows this one."""
        client = self.shown(made, "mx.example.org", _at_most(version), show)
        session = TlsSession(client.server, asked=made._contexts.asks)  # type: ignore[union-attr]
        self.assertTrue(session.completed)
        return session

    def test_verified(self) -> None:
        """One of a trusted authority is verified, and shown in the session's line."""
        self.authority.put(self.state / "ca.pem")
        made = self.start(client_ca="ca.pem")
        show = self.issue(cn="Joe (the client)", mail="joe@example.org")
        for version, words in ((SSL.TLS1_3_VERSION, "TLSv1.3 with "), (SSL.TLS1_2_VERSION, "TLSv1.2 with ")):
            session = self.session(made, show, version)
            self.assertEqual((session.verified, session.why, session.peer), (True, "", show.certificate))
            self.assertTrue(str(session).startswith(words))
            self.assertTrue(str(session).endswith(", client certificate CN=Joe _the client_"), str(session))

    def test_not_verified(self) -> None:
        """None, a stranger's, an expired one, a server's: the handshake is completed, and why tells."""
        self.authority.put(self.state / "ca.pem")
        made = self.start(client_ca="ca.pem")
        mail = "joe@example.org"
        for show, why in (
            (None, "it showed no certificate"),
            (Authority("x").issue(mail=mail, cn="y"), "who signed it is not known here"),
            (self.authority.issue(mail=mail, cn="x", self_signed=True), "the certificate is self-signed"),
            (self.authority.issue(mail=mail, expires=datetime(2026, 2, 3, tzinfo=UTC)), "it expired on 2026-02-03"),
            (self.issue("client.example"), "it is not made for this purpose"),
        ):
            session = self.session(made, show)
            self.assertEqual((session.verified, session.why), (False, why))
            self.assertEqual(session.peer, show and show.certificate)
            self.assertNotIn("certificate", str(session))

    def test_not_resumed(self) -> None:
        """With client_ca no session is resumed: each time the chain is looked at."""
        self.authority.put(self.state / "ca.pem")
        made = self.start(client_ca="ca.pem")
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            context = _at_most(version)
            first = self.shown(made, "mx.example.org", context)
            self.assertRaises(SSL.WantReadError, first.recv, 1)
            session = first.get_session()
            self.assertIsNotNone(session)
            again = ChoiceTests.resume(self, made, "mx.example.org", context, session)  # type: ignore[arg-type]
            self.assertIsNotNone(again.get_peer_finished())
            self.assertFalse(tls_openssl.was_resumed(again))

    def test_first_error_counts(self) -> None:
        """Of what is wrong with a chain the first is told; an error without words by its number."""

        class Connection:
            shown = Shown(None)

        certificate = self.issue("mx.example.org").certificate
        self.assertEqual(Connection.shown.problem(certificate), "its chain was not looked at")
        for error, ok in ((0, 1), (77, 0), (10, 0)):
            self.assertTrue(note_chain(Connection(), None, error, 0, ok))
        self.assertEqual(Connection.shown.problem(certificate), "its chain is not trusted (OpenSSL's error 77)")


class OpensslTests(SynchronousTestCase):
    """What reaches below pyOpenSSL; a new version that hides it is noticed here."""

    def test_there(self) -> None:
        """Groups can be set, and a wrong list is not taken."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.assertTrue(tls_openssl.set_groups(context))
        self.assertFalse(tls_openssl.set_groups(context, b"nothing"))
        tls_openssl.forget_errors()

    def test_hidden(self) -> None:
        """Without it, everything goes on."""
        self.patch(tls_openssl, "_lib", None)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.assertFalse(tls_openssl.set_groups(context))
        self.assertFalse(tls_openssl.was_resumed(SSL.Connection(context)))
        tls_openssl.forget_errors()

    def test_words(self) -> None:
        """An error is told in OpenSSL's words, each once."""
        error = SSL.Error([("SSL routines", "", "no shared cipher"), ("x", "", "no shared cipher"), ("x", "", "other")])
        self.assertEqual(tls_openssl.words_of(error), "no shared cipher; other")
        for empty in (SSL.Error(), SSL.Error([("system library", "", "")]), SSL.SysCallError(-1, "x"), ValueError("x")):
            self.assertEqual(tls_openssl.words_of(empty), "")


def _at_most(version: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    return context
