"""DANE with real records: unbound validates zones that are signed, and TLSA records say which certificate is right.

The exchangers are nodes of ours, and Postfix. What must not go in the clear is watched on the line.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.interop.between import Between, strip_starttls
from tests.interop.mails import SECRET, letter
from tests.interop.node import Node, NodeTest, free_port
from tests.interop.postfix import Postfix
from tests.interop.unbound import Names, Unbound, tlsa
from tests.interop.wire import send
from tests.net.authority import Authority, Issued

AUTHORITY = Authority("Nobody knows it")


def public_key(issued: Issued) -> bytes:
    """What selector 1 means (RFC 6698 section 2.1.2)."""
    key = issued.certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def zone(domain: str, records: list[str], port: int) -> dict[str, Names]:
    """A domain whose exchanger has these TLSA records."""
    names = {
        domain: {"MX": [f"10 mx.{domain}."]},
        f"mx.{domain}": {"A": ["127.0.0.1"]},
        f"_{port}._tcp.mx.{domain}": {"TLSA": records},
    }
    return {domain: {name: those for name, those in names.items() if all(those.values())}}


class DaneTest(NodeTest):
    """One node relays to another whose domain has TLSA records."""

    timeout = 180

    def there(self, domain: str, issued: Issued) -> Node:
        """The exchanger, with this certificate."""
        there = self.node(domain=domain)
        issued.put(there.state / "tls" / "mx.pem")
        return there.start()

    def here(self, resolver: Unbound, domain: str, port: int, more: str = "", trusted: bool = True) -> Node:
        """The node that relays."""
        route = f'[[route]]\ndomain = "{domain}"\nnext_hop = "{domain}:{port}"\n'
        settings = (
            f'[resolver]\nservers = ["127.0.0.1:{resolver.port}"]\ntrusted = {str(trusted).lower()}\n'
            '[queue]\nloopback_exchangers = true\nretry = ["1h"]\n'
        )
        return self.node(top='relay_from = ["127.0.0.0/8"]', tables=settings + route + more).start()

    def between(self, port: int) -> Between:
        """Somebody on the line who takes STARTTLS away."""
        between = Between(port, strip_starttls)
        self.addCleanup(between.close)
        return between

    def test_right(self) -> None:
        """The certificate fits: the mail goes, and the node says so. Usages 3 and 2, by key and by certificate."""
        issued = AUTHORITY.issue("mx.dane.test")
        chained = issued._replace(above=(AUTHORITY.certificate,))
        authority = AUTHORITY.certificate.public_bytes(Encoding.DER)
        there = self.there("dane.test", chained)
        for record in (
            tlsa(public_key(issued), 3, 1, 1),
            tlsa(issued.certificate.public_bytes(Encoding.DER), 3, 0, 2),
            tlsa(authority, 2, 0, 1),
            tlsa(authority, 2, 0, 0),
        ):
            with self.subTest(record=record[:5]), Unbound(zone("dane.test", [record], there.port)) as resolver:
                here = self.here(resolver, "dane.test", there.port)
                queue_id = send(here.port, letter("fits"), ["demo@dane.test"], sender="joe@here.test")
                relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
                self.assertIn("DANE", relayed["tls"])
                there.wait_mail("demo", having=b" id " + queue_id.encode())
                here.stop()

    def test_wrong(self) -> None:
        """Another certificate than the record's: not one octet of the mail leaves; it waits, and says why."""
        issued, other = AUTHORITY.issue("mx.dane.test"), AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        with Unbound(zone("dane.test", [tlsa(public_key(other), 3, 1, 1)], there.port)) as resolver:
            here = self.here(resolver, "dane.test", there.port)
            queue_id = send(here.port, letter("wrong"), ["demo@dane.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual((delayed["reason"], delayed["status"][0]), ("dane-failed", "4"))
        self.assertIn("TLSA", delayed["words"])
        self.assertEqual(there.events("mail-accepted"), [])

    def test_stripped(self) -> None:
        """Somebody takes STARTTLS away: under DANE nothing goes in the clear (attack T10)."""
        issued = AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        between = self.between(there.port)
        with Unbound(zone("dane.test", [tlsa(public_key(issued), 3, 1, 1)], between.port)) as resolver:
            here = self.here(resolver, "dane.test", between.port)
            queue_id = send(here.port, letter("stripped"), ["demo@dane.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(delayed["reason"], "dane-failed")
        self.assertNotIn(b"MAIL", between.said)
        self.assertNotIn(SECRET, between.said)

    def test_not_trusted(self) -> None:
        """The same from a resolver that is not said to be trusted: its AD bit means nothing, and mail goes as ever."""
        issued, other = AUTHORITY.issue("mx.dane.test"), AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        with Unbound(zone("dane.test", [tlsa(public_key(other), 3, 1, 1)], there.port)) as resolver:
            here = self.here(resolver, "dane.test", there.port, trusted=False)
            queue_id = send(here.port, letter("not trusted"), ["demo@dane.test"], sender="joe@here.test")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertIn("TLSv1.3", relayed["tls"])
        self.assertNotIn("DANE", relayed["tls"])

    def test_unsigned(self) -> None:
        """TLSA records in a zone without signatures are no DANE."""
        issued, other = AUTHORITY.issue("mx.dane.test"), AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        records = zone("dane.test", [tlsa(public_key(other), 3, 1, 1)], there.port)
        with Unbound({}, unsigned=records) as resolver:
            here = self.here(resolver, "dane.test", there.port)
            queue_id = send(here.port, letter("unsigned"), ["demo@dane.test"], sender="joe@here.test")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertNotIn("DANE", relayed["tls"])

    def test_exchangers(self) -> None:
        """Of a signed zone the best exchanger that answers takes the mail; a null MX is a failure at once."""
        issued = AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        names = {
            "dane.test": {"MX": ["10 dead.dane.test.", "20 mx.dane.test."]},
            "dead.dane.test": {"A": ["127.0.0.9"]},
            "mx.dane.test": {"A": ["127.0.0.1"]},
            f"_{there.port}._tcp.mx.dane.test": {"TLSA": [tlsa(public_key(issued), 3, 1, 1)]},
        }
        null: Names = {"null.test": {"MX": ["0 ."]}}
        with Unbound({"dane.test": names, "null.test": null}) as resolver:
            here = self.here(resolver, "dane.test", there.port)
            queue_id = send(here.port, letter("second"), ["demo@dane.test"], sender="joe@here.test")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
            self.assertEqual((relayed["host"], "DANE" in relayed["tls"]), ("mx.dane.test", True))
            send(here.port, letter("null"), ["demo@null.test"], sender="joe@here.test")
            report = here.wait_mail("joe", having=b"demo@null.test")
        self.assertIn(b"Status: 5.1.10", report)

    def test_bogus(self) -> None:
        """A zone whose signatures are no longer good: the DNS fails, the mail waits and goes nowhere."""
        issued = AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        records = zone("dane.test", [tlsa(public_key(issued), 3, 1, 1)], there.port)
        with Unbound({}, bogus=records) as resolver:
            here = self.here(resolver, "dane.test", there.port)
            queue_id = send(here.port, letter("bogus"), ["demo@dane.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(delayed["reason"], "dns-failed")
        self.assertEqual(there.events("mail-accepted"), [])

    def test_requiretls(self) -> None:
        """REQUIRETLS goes over MX where DNSSEC secures the MX records and DANE the host, and is passed on."""
        issued = AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        listener = free_port()
        with Unbound(zone("dane.test", [tlsa(public_key(issued), 3, 1, 1)], there.port)) as resolver:
            here = self.here(
                resolver,
                "dane.test",
                there.port,
                f'[[listener]]\nkind = "mx"\nendpoint = "tcp:{listener}:interface=127.0.0.1"\ntls = "implicit"\n',
            )
            queue_id = send_tls(listener, letter("required"), "demo@dane.test")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertIn("DANE", relayed["tls"])
        self.assertTrue(there.wait_mail("demo", having=b" id " + queue_id.encode()))

    def test_postfix(self) -> None:
        """The exchanger is Postfix: its certificate is the one in the TLSA record, or it gets nothing."""
        issued, other = AUTHORITY.issue("mx.local.test"), AUTHORITY.issue("mx.local.test")
        postfix = Postfix("smtpd_tls_security_level = may\n", issued).begin()
        self.addCleanup(postfix.end)
        for record, goes in ((tlsa(public_key(issued), 3, 1, 1), True), (tlsa(public_key(other), 3, 1, 1), False)):
            with self.subTest(goes=goes), Unbound(zone("local.test", [record], postfix.port)) as resolver:
                here = self.here(resolver, "local.test", postfix.port)
                queue_id = send(here.port, letter(f"postfix {goes}"), ["u@local.test"], sender="joe@here.test")
                if goes:
                    self.assertIn("DANE", here.wait_event("recipient-relayed", queue_id=queue_id)["tls"])
                else:
                    delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
                    self.assertEqual(delayed["reason"], "dane-failed")
                here.stop()
        self.assertEqual(len(postfix.mails()), 1)

    def test_route(self) -> None:
        """``mailnode route`` tells of the TLSA record before there is a mail."""
        issued = AUTHORITY.issue("mx.dane.test")
        there = self.there("dane.test", issued)
        with Unbound(zone("dane.test", [tlsa(public_key(issued), 3, 1, 1)], there.port)) as resolver:
            here = self.here(resolver, "dane.test", there.port)
            text = here.command("route", "demo@dane.test")
        self.assertIn("DANE", text)
        self.assertIn("mx.dane.test", text)


def send_tls(port: int, content: bytes, recipient: str) -> str:
    """Bring a mail with REQUIRETLS over TLS from the first octet; gives its queue id."""
    import smtplib
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=30) as client:
        client.ehlo("client.test")
        client.mail("joe@here.test", ["REQUIRETLS"])
        client.rcpt(recipient)
        code, words = client.data(content)
    if code != 250:
        raise AssertionError(f"{code} {words!r}")
    return words.split()[-1].decode()
