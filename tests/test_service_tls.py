"""What a running node knows of other domains' TLS: counted, reported, reloaded, kept over a restart."""

from __future__ import annotations

from typing import Any

from tests.state.test_tls_results import BAD, GOOD, relayed
from tests.test_service import NodeCase
from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.report import tls_reports
from twisted_mail_node.service import MailNode

#: The tests' clock begins at 8:00 UTC; so many seconds later the next day has begun.
TO_MIDNIGHT = 16 * 3600.0


class DomainTlsTest(NodeCase):
    """The node's DomainTls."""

    def begin(self, **settings: str) -> Any:
        """Of a node that runs."""
        self.node = self.start(**settings)
        return self.node._parts.domain_tls

    def test_report(self) -> None:
        """What is counted today is reported tomorrow: the report enters by the queue's door and is delivered here."""
        asked: list[str] = []

        async def query(resolver: object, name: str, rdtype: str) -> Answer:
            asked.append(name)
            return Answer((b"v=TLSRPTv1; rua=mailto:joe@here.test",), True, False, name, 300)

        self.patch(StubResolver, "query", query)
        self.patch(tls_reports, "SPREAD", 0.0)
        domain_tls = self.begin()
        domain_tls.results.note(GOOD._replace(domain="elsewhere.test"))
        domain_tls.results.note(BAD._replace(domain="elsewhere.test"))
        self.node.publish(relayed("elsewhere.test"))
        self.reactor.advance(TO_MIDNIGHT)
        self.reactor.advance(tls_reports.LOOK_EVERY)
        self.reactor.until(lambda: "MailFinished" in self.observer.names())
        self.assertEqual(asked, ["_smtp._tls.elsewhere.test"])
        self.assertIn("TlsReportSent", self.observer.names())
        (file,) = (self.state / "mail" / "here.test" / "joe" / "new").iterdir()
        content = file.read_bytes()
        self.assertIn(b"TLS-Report-Domain: elsewhere.test\n", content)
        self.assertTrue(content.startswith(b"Return-Path: <>\n"))

    def test_restart(self) -> None:
        """Counts survive an orderly stop; no timer is left behind."""
        domain_tls = self.begin()
        domain_tls.results.note(GOOD)
        self.stop(self.node)
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if "tls" in str(call)], [])
        domain_tls = self.begin()
        rows = domain_tls.results._state.read("SELECT domain, sessions FROM tls_result")
        self.assertEqual(rows, [(GOOD.domain, 1)])

    def test_reload(self) -> None:
        """Policies and reports are switched by a reload."""
        domain_tls = self.begin(tables="[outbound]\nmta_sts = false\n[tls_reports]\nenabled = false\n")
        self.assertEqual((domain_tls.policies.enabled, domain_tls.results.enabled), (False, False))
        self.write()
        self.node.reload()
        self.assertEqual((domain_tls.policies.enabled, domain_tls.results.enabled), (True, True))
        self.write(tables='[tls_reports]\ncontact = "tls@here.test"\norganization = "Here"\n')
        self.node.reload()
        reporter = domain_tls._reports._reporter
        self.assertEqual((str(reporter.contact), reporter.organization), ("tls@here.test", "Here"))

    def test_start_fails(self) -> None:
        """A start that fails gives the database back."""
        self.reactor.taken = 2587
        node: MailNode = self.make()
        self.fails(node)
        self.reactor.taken = None
        self.begin()
