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
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.routing import CACHE_MAX, NextHop, Route, Router, parse_next_hop
from twisted_mail_node.settings import Domain, RouteRule


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


def mail(sender: str = "ann@example.org", account: str = "") -> Envelope:
    """A mail from somebody; ``""`` is the null reverse-path."""
    local, _, domain = sender.partition("@")
    return Envelope(Address(local, domain) if sender else None, account=account)


class ConditionTests(SynchronousTestCase):
    """Rules that look at more than the recipient."""

    def setUp(self) -> None:
        self.rules = [
            RouteRule(domain="a.example", senders=("Joe@example.org", "*@News.example"), next_hop="[by-sender.test]"),
            RouteRule(accounts=("ann@example.org",), next_hop="[by-account.test]"),
            RouteRule(senders=("*@example.org",), accounts=("*@example.org",), source="bulk", tls="required"),
            RouteRule(domain="b.example", next_hop="[by-domain.test]", username="us", password_file="/p"),
        ]
        self.routes = Router(self.rules, Locals("example.org"))

    def test_sender(self) -> None:
        """An address fits in any case, ``*@domain`` fits every address of the domain, and of no other."""
        for sender, wanted in (
            ("joe@example.org", "[by-sender.test]"),
            ("JOE@EXAMPLE.org", "[by-sender.test]"),
            ("any@news.example", "[by-sender.test]"),
            ("any@sub.news.example", "a.example"),
            ("ann@example.org", "a.example"),
        ):
            self.assertEqual(self.routes.find("a.example", mail(sender)).next_hop, wanted, sender)
        self.assertEqual(self.routes.find("c.example", mail("joe@example.org")).next_hop, "c.example")

    def test_null_reverse_path(self) -> None:
        """A bounce goes by rules without senders only, also where a pattern means every sender of a domain."""
        self.assertEqual(self.routes.find("a.example", mail("")).next_hop, "a.example")
        self.assertEqual(self.routes.find("b.example", mail("")).next_hop, "[by-domain.test]")

    def test_account(self) -> None:
        """A rule for accounts is for their mail only, whatever its reverse-path; without a mail it fits nothing."""
        self.assertEqual(self.routes.find("b.example", mail("x@y.example", "Ann@example.org")).next_hop,
                         "[by-account.test]")  # fmt: skip
        self.assertEqual(self.routes.find("b.example", mail("ann@example.org")).next_hop, "[by-domain.test]")
        self.assertEqual(self.routes.find("c.example").next_hop, "c.example")

    def test_all_conditions(self) -> None:
        """Senders and accounts of one rule must both fit. Without a next hop the recipient's domain is kept, and the
        rule says how to go there."""
        both = self.routes.find("c.example", mail("joe@example.org", "joe@example.org"))
        self.assertEqual(both, Route("relay", "c.example", "required", source="bulk"))
        for sender, account in (("joe@example.org", ""), ("joe@x.example", "joe@example.org")):
            self.assertEqual(self.routes.find("c.example", mail(sender, account)), Route("relay", "c.example"))

    def test_literal_without_next_hop(self) -> None:
        """A rule without a next hop leads to the host of an address literal, and to nobody where there is none."""
        sent = mail("joe@example.org", "joe@example.org")
        self.assertEqual(self.routes.find("[192.0.2.7]", sent)[:3], ("relay", "[192.0.2.7]", "required"))
        self.assertEqual(self.routes.find("[tag:odd]", sent).agent, "none")

    def test_credentials(self) -> None:
        """The rule that has a name and a password is named."""
        self.assertEqual(self.routes.find("b.example"), Route("relay", "[by-domain.test]", credentials="route[4]"))

    def test_remembered(self) -> None:
        """What is remembered of a domain is right for the next mail, too, which has another sender."""
        for sender in ("joe@example.org", "x@y.example", "joe@example.org"):
            wanted = "[by-sender.test]" if sender.startswith("joe") else "a.example"
            self.assertEqual(self.routes.find("a.example", mail(sender)).next_hop, wanted)

    @given(st.lists(st.tuples(
        st.sampled_from(("*", ".example", "a.example", "b.example")),
        st.sampled_from(((), ("joe@example.org",), ("*@example.org",), ("*@news.example", "ann@example.org"))),
        st.sampled_from(((), ("joe@example.org",), ("*@example.org",))),
    ), max_size=6), st.sampled_from(("a.example", "b.example", "example")),
        st.sampled_from(("", "joe@example.org", "ann@example.org", "x@news.example")),
        st.sampled_from(("", "joe@example.org", "ann@example.org")))  # fmt: skip
    def test_as_by_hand(self, rules: list[tuple[str, tuple[str, ...], tuple[str, ...]]], domain: str, sender: str,
                        account: str) -> None:  # fmt: skip
        """For any rules: the first that fits when each is looked at in turn; and what explains it names that rule."""
        made = [
            RouteRule(domain=where, senders=senders, accounts=accounts, next_hop=f"[r{n}.test]")
            for n, (where, senders, accounts) in enumerate(rules, 1)
        ]

        def among(text: str, patterns: tuple[str, ...]) -> bool:
            return not patterns or (bool(text) and (text in patterns or f"*@{text.partition('@')[2]}" in patterns))

        wanted = domain
        for n, (where, senders, accounts) in enumerate(rules, 1):
            meant = where == "*" or where == domain or (where[0] == "." and domain.endswith(where))
            if meant and among(sender, senders) and among(account, accounts):
                wanted = f"[r{n}.test]"
                break
        routes = Router(made, Locals())
        self.assertEqual(routes.find(domain, mail(sender, account)).next_hop, wanted)
        steps = routes.explain(Address("x", domain), mail(sender, account))
        self.assertEqual([step.fits for step in steps], [False] * (len(steps) - 1) + [True])
        rule = "MX" if wanted == domain else f"route[{wanted[2:-6]}]"
        self.assertEqual(steps[-1].rule, rule)


class StoreTests(SynchronousTestCase):
    """Local domains with a message store."""

    def test_lmtp(self) -> None:
        """A local domain with ``lmtp`` goes to its message store in any spelling; the others to their Maildirs."""
        domains = [Domain(name="example.org"), Domain(name="BÜCHER.example", lmtp="unix:/run/lmtp")]
        routes = Router((), Locals("example.org", "xn--bcher-kva.example"), domains)
        wanted = Route("relay", "unix:/run/lmtp", transport="lmtp")
        for domain in ("bücher.example", "XN--BCHER-KVA.example."):
            self.assertEqual(routes.find(domain), wanted)
        self.assertEqual(routes.find("example.org"), Route("maildir", "example.org"))
        routes.reload((), [Domain(name="example.org", lmtp="[192.0.2.1]:24")])
        self.assertEqual(routes.find("example.org").next_hop, "[192.0.2.1]:24")
        self.assertEqual(routes.find("bücher.example").agent, "maildir")


class ExplainTests(SynchronousTestCase):
    """What an operator is told."""

    def test_rules(self) -> None:
        """Each rule up to the one that fits, with what it wanted."""
        rules = [
            RouteRule(domain="b.example", next_hop="[b.test]"),
            RouteRule(senders=("*@news.example",), next_hop="[news.test]"),
            RouteRule(accounts=("ann@example.org",), next_hop="[ann.test]"),
            RouteRule(domain="*", next_hop="[smart.test]:587"),
            RouteRule(domain="*", next_hop="[never.test]"),
        ]
        steps = Router(rules, Locals("example.org")).explain(Address("joe", "a.example"), mail("ann@example.org"))
        self.assertEqual(
            [tuple(step) for step in steps],
            [
                ("directory", False, "a.example is not local"),
                ("route[1]", False, 'domain = "b.example" is not a.example'),
                ("route[2]", False, "senders (*@news.example): not ann@example.org"),
                ("route[3]", False, "accounts (ann@example.org): not mail that nobody signed in for"),
                ("route[4]", True, 'domain = "*" fits: next hop [smart.test]:587'),
            ],
        )

    def test_others(self) -> None:
        """Local domains, message stores, MX, address literals, and what nobody can reach."""
        domains = [Domain(name="example.org"), Domain(name="store.example", lmtp="unix:/run/lmtp")]
        routes = Router((), Locals("example.org", "store.example"), domains)
        for domain, rule, words in (
            ("example.org", "directory", "to its Maildirs"),
            ("store.example", "domain[2].lmtp", "LMTP to unix:/run/lmtp"),
            ("a.example", "MX", "to the domain itself, by MX"),
            ("[192.0.2.7]", "MX", "to the host of the address literal"),
            ("[tag:odd]", "MX", "not an address literal we can reach"),
            ("ü" * 300, "MX", "is not a domain name"),
        ):
            step = routes.explain(Address("joe", domain))[-1]
            self.assertEqual((step.rule, step.fits), (rule, True))
            self.assertIn(words, step.why)


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
