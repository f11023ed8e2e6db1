"""Which MTA-STS policy is in force: asked, fetched, kept, fetched again (RFC 8461 sections 3.3 and 5.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Notes
from tests.outbound.test_mtasts import GOOD
from tests.state.at_once import StateAtOnce
from tests.threads import ThreadsAtOnce
from twisted_mail_node.dns.answer import Answer, DNSError
from twisted_mail_node.events import Event
from twisted_mail_node.events_outbound import PolicyFetched, PolicyNotFetched
from twisted_mail_node.outbound import mtasts_policies as policies
from twisted_mail_node.outbound.mtasts import StsPolicy
from twisted_mail_node.outbound.mtasts_fetch import FetchError
from twisted_mail_node.outbound.mtasts_policies import StsPolicies

NOW = 1_800_000_000.0
DAY = 86_400.0


class Resolver:
    """Knows ids of policies; counts what it is asked."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.fails = False
        self.asked: list[str] = []

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        assert rdtype == "TXT"
        self.asked.append(name)
        if self.fails:
            return fail(DNSError("no answer"))
        policy_id = self.ids.get(name.removeprefix("_mta-sts."))
        records = () if policy_id is None else (f"v=STSv1; id={policy_id};".encode(),)
        return succeed(Answer(records, True, False, name, 300))


class PoliciesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadsAtOnce()
        self.clock.advance(NOW)
        self.resolver = Resolver()
        self.resolver.ids["example.com"] = "1"
        self.fetched: list[str] = []
        self.file: bytes | Exception | None = GOOD
        self.waiting: list[Deferred[bytes]] = []
        self.events: list[Event] = []
        self.notes = Notes()
        self.path = Path(self.mktemp()) / "state.sqlite"
        self.policies = self.opened()

    def opened(self) -> StsPolicies:
        """As after a restart."""
        self.state = StateAtOnce(self.path)
        self.addCleanup(self.state.close)
        made = StsPolicies(
            resolver=self.resolver,  # type: ignore[arg-type]
            fetch=self.fetch,
            state=self.state,
            clock=self.clock,
            publish=self.events.append,
            notes=self.notes,
        )
        made.start()
        self.addCleanup(made.stop)
        return made

    def restart(self) -> None:
        """Stop, and start anew."""
        self.policies.stop()
        self.state.close()
        self.policies = self.opened()

    def fetch(self, domain: str) -> Deferred[bytes]:
        """The policy file, or a Deferred that the test fires when ``file`` is None."""
        self.fetched.append(domain)
        if self.file is None:
            waiting: Deferred[bytes] = Deferred()
            self.waiting.append(waiting)
            return waiting
        return fail(self.file) if isinstance(self.file, Exception) else succeed(self.file)

    def finding(self, domain: str = "example.com") -> Deferred[StsPolicy | None]:
        """A mail asks."""
        return Deferred.fromCoroutine(self.policies.find(domain))

    def find(self, domain: str = "example.com") -> StsPolicy | None:
        """A mail asks and does not wait."""
        return self.successResultOf(self.finding(domain))

    def found(self, domain: str = "example.com") -> StsPolicy:
        """There is a policy."""
        policy = self.find(domain)
        assert policy is not None
        return policy

    def later(self, seconds: float) -> None:
        """Time passes, with all timers on its way."""
        while seconds > 0:
            self.clock.advance(min(seconds, 300.0))
            seconds -= 300.0


class FindTest(PoliciesCase):
    """find."""

    def test_first(self) -> None:
        """The TXT record is asked for, the file fetched, both remembered; any spelling of the domain is the same."""
        self.assertEqual(self.found().exchangers, ("mail.example.com", "*.example.net"))
        self.assertEqual(self.found("EXAMPLE.com.").id, "1")
        self.assertEqual((self.resolver.asked, self.fetched), (["_mta-sts.example.com"], ["example.com"]))
        self.assertEqual(
            self.events, [PolicyFetched("example.com", "enforce", ("mail.example.com", "*.example.net"), 0)]
        )
        self.assertEqual(self.notes, [])

    def test_stopped(self) -> None:
        """After the stop nothing is asked, and a policy in force is so for the mail that is still under way."""
        self.found()
        self.policies.stop()
        self.later(policies.ASK_AGAIN)
        self.assertEqual(self.found().id, "1")
        self.assertIsNone(self.find("example.org"))
        self.assertEqual(self.resolver.asked, ["_mta-sts.example.com"])
        self.later(10 * 365 * DAY)
        self.assertIsNone(self.find())

    def test_none(self) -> None:
        """A domain without the record costs one question in five minutes; address literals cost none."""
        for domain in ("example.org", "example.org", "[192.0.2.1]", ""):
            self.assertIsNone(self.find(domain))
        self.assertEqual((self.resolver.asked, self.fetched), (["_mta-sts.example.org"], []))
        self.later(300)
        self.find("example.org")
        self.assertEqual(len(self.resolver.asked), 2)
        self.assertEqual(self.notes, [])

    def test_new_id(self) -> None:
        """A new id leads to a fetch, when the record is asked for again."""
        self.found()
        self.resolver.ids["example.com"] = "2"
        self.file = GOOD.replace(b"enforce", b"testing")
        self.assertEqual(self.found().id, "1")
        self.later(policies.ASK_AGAIN)
        self.assertEqual(self.found()[:2], ("2", "testing"))
        self.later(policies.ASK_AGAIN)
        self.found()
        self.assertEqual(len(self.fetched), 2)

    def test_kept(self) -> None:
        """Neither a DNS that fails, nor a record that is gone, nor a web server that fails ends a policy before its
        max_age is over; after that mail goes as if there were none."""
        self.found()
        for trouble in ("dns", "record", "web", "invalid"):
            with self.subTest(trouble=trouble):
                self.later(policies.FETCH_AGAIN)
                self.resolver.fails = trouble == "dns"
                self.resolver.ids = {"record": {}, "web": {"example.com": "8"}}.get(trouble, {"example.com": "9"})
                self.file = FetchError("it is gone", "sts-policy-fetch-error") if trouble == "web" else b"<html>"
                self.assertEqual(self.found().id, "1")
        self.assertEqual([type(event) for event in self.events], [PolicyFetched, PolicyNotFetched, PolicyNotFetched])
        self.policies.stop()
        self.clock.advance(604_800)
        self.policies.start()
        self.assertIsNone(self.find())

    def test_fails(self) -> None:
        """A fetch that fails is told, and is not tried again within five minutes, even for another id."""
        for problem, result in (
            (FetchError("it answers 404", "sts-policy-fetch-error"), "sts-policy-fetch-error"),
            (FetchError("its certificate is not good", "sts-webpki-invalid"), "sts-webpki-invalid"),
            (b"<html>", "sts-policy-invalid"),
            (RuntimeError("a defect"), "sts-policy-fetch-error"),
        ):
            with self.subTest(result=result):
                self.file = problem
                before = len(self.fetched)
                self.assertIsNone(self.find())
                self.resolver.ids["example.com"] += "1"
                self.assertIsNone(self.find())
                self.assertEqual(len(self.fetched), before + 1)
                told = self.notes.pop()
                self.assertEqual((told.domain, told.policy_type, told.result), ("example.com", "sts", result))
                self.assertEqual(self.events[-1], PolicyNotFetched("example.com", told.words))
                self.later(policies.FETCH_AGAIN)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.file = GOOD
        self.found()
        self.assertEqual(self.notes, [])

    def test_mode_none(self) -> None:
        """Mode none is no policy; that it cannot be fetched again interests nobody."""
        self.file = b"version: STSv1\nmode: none\nmax_age: 86400\n"
        self.assertIsNone(self.find())
        self.assertEqual(self.events, [PolicyFetched("example.com", "none", (), 0)])
        self.resolver.ids["example.com"] = "2"
        self.file = FetchError("it is gone", "sts-policy-fetch-error")
        self.later(policies.ASK_AGAIN)
        self.assertIsNone(self.find())
        self.assertEqual(len(self.events), 1)
        self.assertEqual(self.notes, [])

    def test_disabled(self) -> None:
        """With mta_sts = false nobody is asked."""
        self.policies.enabled = False
        self.assertIsNone(self.find())
        self.assertEqual(self.resolver.asked, [])


class WaitingTest(PoliciesCase):
    """Fetches that take time."""

    def test_shared(self) -> None:
        """Several mails wait for one fetch; one that gives up ends it for nobody else."""
        self.file = None
        finding = [self.finding() for _ in range(3)]
        finding[0].cancel()
        self.failureResultOf(finding[0])
        self.assertEqual(len(self.waiting), 1)
        self.waiting[0].callback(GOOD)
        for each in finding[1:]:
            self.assertIsNotNone(self.successResultOf(each))

    def test_slow(self) -> None:
        """A mail waits a minute at most; what comes later counts for the next one."""
        self.file = None
        slow = self.finding()
        self.clock.advance(policies.FIND_TIME - 1)
        self.assertNoResult(slow)
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(slow))
        self.waiting[0].callback(GOOD)
        self.assertIsNotNone(self.find())
        self.assertEqual(len(self.fetched), 1)

    def test_slow_failure(self) -> None:
        """The five minutes after a failure count from its end, however long it took."""
        self.file = None
        slow = self.finding()
        self.clock.advance(50)
        self.waiting[0].errback(FetchError("it is gone", "sts-policy-fetch-error"))
        self.assertIsNone(self.successResultOf(slow))
        self.clock.advance(policies.ASK_AGAIN - 10)
        self.finding()
        self.assertEqual(len(self.fetched), 1)
        self.clock.advance(10)
        self.finding()
        self.assertEqual(len(self.fetched), 2)

    def test_web_servers_that_never_answer(self) -> None:
        """A dozen of them hold up the policy of no other domain."""
        self.file = None
        for number in range(12):
            self.resolver.ids[f"d{number}.example"] = "1"
            self.finding(f"d{number}.example")
        self.file = GOOD
        self.assertIsNotNone(self.find())

    def test_bounded(self) -> None:
        """Some fetches at a time, some that wait, and mails to more domains go on without."""
        self.file = None
        self.policies._places = DeferredSemaphore(4)
        self.patch(policies, "WAITING_MAX", 10)
        domains = [f"d{number}.example" for number in range(12)]
        self.resolver.ids = dict.fromkeys(domains, "1")
        finding = [self.finding(domain) for domain in domains]
        self.assertEqual(self.fetched, domains[:4])
        for each in finding[10:]:
            self.assertIsNone(self.successResultOf(each))
        for number in range(10):
            self.waiting[number].callback(GOOD)
            self.assertIsNotNone(self.successResultOf(finding[number]))
        self.assertEqual(self.fetched, domains[:10])

    def test_stop(self) -> None:
        """Stopping ends fetches under way; who waits goes on without."""
        self.file = None
        finding = self.finding()
        self.policies.stop()
        self.assertIsNone(self.successResultOf(finding))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AnyStoryTest(PoliciesCase):
    """Whatever happens to the DNS, the web server and the node."""

    STEPS = st.lists(
        st.tuples(
            st.sampled_from(["wait", "dns fails", "dns is well", "record goes", "new id", "web fails",
                             "web is well", "restart"]),
            st.integers(0, 120_000) | st.sampled_from([299, 300, 86_400, 104_799, 104_800]),
        ),
        max_size=25,
    )  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_any(self, steps: list[tuple[str, int]]) -> None:
        """What was fetched last is in force until its max_age is over, and not a second longer; after a fetch that
        failed there is none for five minutes."""
        self.policies.stop()
        self.state.close()
        self.path = Path(self.mktemp()) / "state.sqlite"
        good = GOOD.replace(b"604800", b"104800")
        self.resolver.fails, self.resolver.ids, self.file = False, {"example.com": "1"}, good
        fetches: list[tuple[float, bool]] = []  # when, and whether it worked

        def fetch(domain: str) -> Deferred[bytes]:
            now, works = self.clock.seconds(), self.file is good
            self.assertTrue(not fetches or fetches[-1][1] or now >= fetches[-1][0] + policies.FETCH_AGAIN)
            fetches.append((now, works))
            return succeed(good) if works else fail(FetchError("it is gone", "sts-policy-fetch-error"))

        self.patch(self, "fetch", fetch)
        self.policies = self.opened()
        last: float | None = None
        for number, (step, seconds) in enumerate(steps):
            if step == "wait":
                self.clock.advance(seconds)
            elif step == "record goes":
                self.resolver.ids = {}
            elif step == "new id":
                self.resolver.ids = {"example.com": str(number + 2)}
            elif step == "restart":
                self.restart()
                fetches = [one for one in fetches if one[1]]  # that a fetch failed is not kept
            elif step.startswith("dns"):
                self.resolver.fails = step == "dns fails"
            else:
                self.file = good if step == "web is well" else None
            found, now = self.find(), self.clock.seconds()
            last = max((when for when, works in fetches if works), default=None)
            self.assertEqual(found is not None, last is not None and now < last + 104_800)


class RememberingTest(PoliciesCase):
    """What is kept."""

    def test_restart(self) -> None:
        """A policy survives a restart, and holds while the DNS fails, until it expires."""
        before = self.found()
        self.restart()
        self.resolver.fails = True
        self.assertEqual(self.found(), before)
        self.clock.advance(604_800)
        self.restart()
        self.assertIsNone(self.find())
        self.assertEqual(self.state.read("SELECT * FROM mta_sts"), [])

    def test_unreadable(self) -> None:
        """A row that cannot be read is left out."""
        self.found()
        self.state.write("UPDATE mta_sts SET exchangers = 'x'")
        self.restart()
        self.resolver.fails = True
        self.assertIsNone(self.find())

    def test_refresh(self) -> None:
        """A policy in use is fetched anew every day, whatever its id; one that nobody needs is left to expire."""
        self.found()
        self.later(DAY + policies.LOOK_EVERY)
        self.assertEqual(len(self.fetched), 2)
        self.found()
        self.later(DAY + policies.LOOK_EVERY)
        self.assertEqual(len(self.fetched), 3)
        self.later(3 * DAY)
        self.assertLessEqual(len(self.fetched), 4)
        self.later(9 * DAY)
        self.assertEqual(self.state.read("SELECT count(*) FROM mta_sts"), [(0,)])
        self.assertLessEqual(len(self.fetched), 4)

    def test_refresh_fails(self) -> None:
        """A refresh that fails is told and tried again after an hour; the policy stays in force."""
        self.found()
        self.file = FetchError("it is gone", "sts-policy-fetch-error")
        self.later(DAY + policies.LOOK_EVERY)
        self.found()
        failed = [event for event in self.events if isinstance(event, PolicyNotFetched)]
        self.assertEqual(len(failed), 1)
        self.later(policies.REFRESH_AGAIN + policies.LOOK_EVERY)
        self.assertEqual(len(self.fetched), 3)

    def test_lines(self) -> None:
        """Huge policies count for what they are: many of them do not fill the memory."""
        self.patch(policies, "LINES_MAX", 1000)
        self.file = b"version: STSv1\nmode: enforce\nmax_age: 86400\n" + b"".join(
            b"mx: mx%d.example\n" % number for number in range(400)
        )
        for number in range(4):
            self.resolver.ids[f"d{number}.example"] = "1"
            self.found(f"d{number}.example")
        self.assertEqual(list(self.policies._known), ["d2.example", "d3.example"])
        self.later(policies.ASK_AGAIN)
        self.resolver.ids["d3.example"] = "2"
        self.file = GOOD
        self.found("d3.example")
        self.assertEqual(self.policies._lines, 402)
        self.policies.enabled = False  # nothing is fetched anew: the others expire
        self.later(DAY)
        self.assertEqual((list(self.policies._known), self.policies._lines), (["d3.example"], 2))
        self.restart()
        self.assertEqual((list(self.policies._known), self.policies._lines), (["d3.example"], 2))

    def test_forgetting(self) -> None:
        """Of more domains than are remembered those asked for longest ago go, in memory and in the database."""
        self.patch(policies, "DOMAINS_MAX", 3)
        for number in range(5):
            self.resolver.ids[f"d{number}.example"] = "1"
            self.found(f"d{number}.example")
            self.find(f"n{number}.example")
        self.find("d2.example")
        self.resolver.ids["last.example"] = "1"
        self.found("last.example")
        rows: Any = self.state.ask("SELECT domain FROM mta_sts ORDER BY domain")
        self.state.close()
        self.assertEqual(
            [domain for (domain,) in self.successResultOf(rows)], ["d2.example", "d4.example", "last.example"]
        )
        asked = len(self.resolver.asked)
        self.find("n4.example")
        self.find("n0.example")
        self.assertEqual(len(self.resolver.asked), asked + 1)
