"""Tests of routing: rules in their order, local domains, and the spelling of next hops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IDirectory, IRouter
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.routing import CACHE_MAX, NextHop, Route, Router, parse_next_hop
from twisted_mail_node.settings import RouteRule


@implementer(IDirectory)
class Locals:
    """A directory that knows domains only."""

    def __init__(self, *domains: str) -> None:
        self.domains = set(domains)

    async def resolve(self, address: Address) -> Resolution:
        """Nobody lives here."""
        return Resolution(self.is_local(address.domain), ())

    def is_local(self, domain: str) -> bool:
        """One of ours."""
        try:
            return domain_key(domain) in self.domains
        except ValueError:
            return False


def router(*rules: tuple[str, str], local: tuple[str, ...] = ("example.org",)) -> Router:
    """A router with these rules."""
    return Router([RouteRule(domain=domain, next_hop=hop) for domain, hop in rules], Locals(*local))


class RouterTests(SynchronousTestCase):
    """Where a mail goes."""

    def test_interface(self) -> None:
        """A router is an IRouter."""
        self.assertTrue(verifyObject(IRouter, router()))

    def test_route(self) -> None:
        """A route is asked for by address."""
        coroutine = router().route(Address("joe", "example.com"))
        with self.assertRaises(StopIteration) as caught:
            coroutine.send(None)
        self.assertEqual(caught.exception.value, Route("relay", "example.com"))

    def test_local(self) -> None:
        """A local domain goes to the Maildir, in any spelling, whatever the rules say."""
        routes = router(("*", "relay.example"), local=("example.org", "xn--bcher-kva.example"))
        self.assertEqual(routes.find("example.org"), Route("maildir", "example.org"))
        self.assertEqual(routes.find("EXAMPLE.org."), Route("maildir", "example.org"))
        self.assertEqual(routes.find("bücher.example"), Route("maildir", "xn--bcher-kva.example"))

    def test_local_changes(self) -> None:
        """A domain that becomes local is local at once, although it was routed elsewhere before."""
        places = Locals()
        routes = Router((), places)
        self.assertEqual(routes.find("example.org").agent, "relay")
        places.domains.add("example.org")
        self.assertEqual(routes.find("example.org").agent, "maildir")

    def test_first_match(self) -> None:
        """The first rule that fits counts."""
        routes = router(
            ("a.example", "[192.0.2.1]"),
            (".example", "b.example:2525"),
            ("x.example", "never.test"),
            ("*", "[relay.test]:25"),
        )
        self.assertEqual(routes.find("a.example").next_hop, "[192.0.2.1]")
        self.assertEqual(routes.find("x.example").next_hop, "b.example:2525")
        self.assertEqual(routes.find("y.x.EXAMPLE").next_hop, "b.example:2525")
        self.assertEqual(routes.find("example").next_hop, "[relay.test]:25")
        self.assertEqual(routes.find("notexample").next_hop, "[relay.test]:25")

    def test_one_next_hop_a_domain(self) -> None:
        """All spellings of a remote domain are one next hop."""
        hops = {router().find(domain) for domain in ("BÜCHER.example", "bücher.example.", "xn--bcher-kva.example")}
        self.assertEqual(hops, {Route("relay", "xn--bcher-kva.example")})

    def test_literal(self) -> None:
        """An address literal is a remote host unless it is listed; a rule for subdomains never means it."""
        routes = router((".example", "never.test"), local=("[192.0.2.9]",))
        self.assertEqual(routes.find("[192.0.2.9]").agent, "maildir")
        route = routes.find("[IPv6:2001:db8::1]")
        self.assertEqual(route.agent, "relay")
        self.assertEqual(parse_next_hop(route.next_hop), NextHop("2001:db8::1", 25, False))

    def test_nowhere(self) -> None:
        """What no agent can reach is told instead of raised."""
        for domain in ("[tag:something odd]", "ü" * 300, "\ud800", "[192.0.2]x"):
            route = router().find(domain)
            self.assertEqual(route.agent, "none", domain)
            self.assertTrue(route.next_hop)

    def test_bounded(self) -> None:
        """A node that meets ever new domains does not remember them all."""
        routes = router()
        for number in range(CACHE_MAX + 10):
            routes.find(f"{number}.example")
        self.assertEqual(len(routes._known), 10)

    def test_reload(self) -> None:
        """New rules count at once."""
        routes = router(("*", "a.example"))
        self.assertEqual(routes.find("b.example").next_hop, "a.example")
        routes.reload([])
        self.assertEqual(routes.find("b.example").next_hop, "b.example")


class NextHopTests(SynchronousTestCase):
    """How next hops are spelled."""

    def test_right(self) -> None:
        """Domains are looked up, brackets are not."""
        right = {
            "example.net": NextHop("example.net", 25, True),
            "Example.NET:2525": NextHop("example.net", 2525, True),
            "bücher.example": NextHop("xn--bcher-kva.example", 25, True),
            "[mx_1.example.net]": NextHop("mx_1.example.net", 25, False),
            "[192.0.2.7]:587": NextHop("192.0.2.7", 587, False),
            "[IPv6:2001:DB8::0:1]:25": NextHop("2001:db8::1", 25, False),
            "[ipv6:2001:db8::1]": NextHop("2001:db8::1", 25, False),
            "[2001:db8::1]:26": NextHop("2001:db8::1", 26, False),
        }
        for text, wanted in right.items():
            self.assertEqual(parse_next_hop(text), wanted)

    def test_wrong(self) -> None:
        """Everything else is refused."""
        for text in (
            "", ":25", "a:", "a:0", "a:65536", "a:x", "a b", "a..b", "-a", "[a", "a]", "[]", "[a]25", "[a]:",
            "[IPv6:x]",
            "192.0.2.7", "192.0.2.7:25", "2001:db8::1", "[a]:25:26", "a:²", "\n", "[a\n]", "[[a]]",
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                parse_next_hop(text)

    @given(st.text(alphabet="[]:.aIPv6\n0123 x-", max_size=30))
    def test_anything(self, text: str) -> None:
        """No text raises anything but ValueError, and no host has a bracket, a space or a line end."""
        try:
            host, port, _, path = parse_next_hop(text)
        except ValueError:
            return
        self.assertTrue((0 < port < 65536) != bool(path) and host and not set(host) & set("[] \n"))
