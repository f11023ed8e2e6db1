"""Every DSN is read right by others: by Python's own parser, and by a bounce detector (flufl.bounce).

All kinds, with aliases, ORCPT, addresses outside ASCII, and whatever words hosts say.
"""

from __future__ import annotations

import email
import email.policy
import importlib
import quopri
from email.message import EmailMessage, Message
from email.utils import parseaddr
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.message.test_dsn import HEADER, HOSTILE, JOE, WHEN
from twisted_mail_node.message import dsn
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: The detector reads "rfc822;address" as a list of parameters: "=" and ";" in an address end it there, "%" is decoded.
LOCAL = st.lists(st.text("abcXYZ019!#$&+-/?^_`{|}~", min_size=1, max_size=6), min_size=1, max_size=3).map(".".join)
ADDRESSES = st.builds(Address, LOCAL, st.sampled_from(["example.net", "mx.example.com", "[192.0.2.1]"]))
#: The detector reads addresses by ``parseaddr``, which from Python 3.13 on finds nothing where there is a literal.
DETECTED = ADDRESSES.filter(lambda address: parseaddr(str(address))[1] or not address.domain.startswith("["))
WORLD = st.builds(Address, st.sampled_from(["jö", "用户", "a\u0301"]), st.just("example.net"))
STATUSES = st.builds(
    DeliveryStatus,
    st.sampled_from(Action),
    st.sampled_from(["5.1.1", "4.4.7", "2.0.0", "", "nonsense"]),
    st.sampled_from(Reason),
    st.one_of(HOSTILE, st.just("550 5.1.1 <other@example.org> failed; Action: failed; <other@example.org>")),
    st.one_of(st.sampled_from(["", "mx.example.net"]), HOSTILE),
    HOSTILE,
    st.booleans(),
)
NOTIFY = st.sampled_from([(), ("NEVER",), ("SUCCESS",), ("FAILURE",), ("SUCCESS", "FAILURE", "DELAY")])


@st.composite
def outcomes(draw: st.DrawFn, addresses: st.SearchStrategy[Address]) -> dsn.Outcome:
    """A recipient: reached straight or by an alias, with ORCPT or without."""
    original = draw(addresses)
    behind = draw(st.one_of(st.just(original), ADDRESSES))
    orcpt = f"rfc822;{original}" if original.is_ascii and draw(st.booleans()) else ""
    recipient = Recipient(behind, original, draw(NOTIFY), orcpt)
    times = st.none() | st.floats(WHEN - 1e6, WHEN + 1e6)
    return dsn.Outcome(recipient, draw(STATUSES), draw(times), draw(times))


def made(told: list[dsn.Outcome], envelope: Envelope, postmaster: bool, whole: bool) -> dsn.Notification:
    """The DSN."""
    return dsn.build(
        hostname="mx.example.org",
        queue_id="DSN1",
        when=WHEN,
        envelope=envelope,
        arrived=WHEN - 3600,
        outcomes=told,
        header=HEADER,
        original=HEADER + b"To: <third@example.org>\r\n\r\nFinal-Recipient: rfc822;third@example.org\r\n"
        if whole
        else None,
        original_queue_id="Q1",
        postmaster=Address("postmaster", "example.org") if postmaster else None,
    )


ENVELOPES = st.builds(
    Envelope,
    st.sampled_from([JOE, Address("jö", "example.org")]),
    ret=st.sampled_from([None, "FULL", "HDRS"]),
    envid=HOSTILE,
    smtputf8=st.booleans(),
)


class DetectorTests(SynchronousTestCase):
    """flufl.bounce."""

    def setUp(self) -> None:
        try:
            self.bounce: Any = importlib.import_module("flufl.bounce")
        except ImportError:
            raise SkipTest("flufl.bounce is not installed") from None

    @settings(deadline=None, max_examples=150)
    @given(st.lists(outcomes(DETECTED), min_size=1, max_size=5), ENVELOPES, st.booleans(), st.booleans())
    def test_found(self, told: list[dsn.Outcome], envelope: Envelope, postmaster: bool, whole: bool) -> None:
        """Failed addresses are found as permanent failures and delayed ones as temporary, exactly and no others, as
        the sender wrote them."""
        found = email.message_from_bytes(made(told, envelope, postmaster, whole).content)
        temporary, permanent = (
            {str(one.recipient.original).encode() for one in told if one.status.action is action}
            for action in (Action.DELAYED, Action.FAILED)
        )
        self.assertEqual(self.bounce.all_failures(found), (temporary, permanent))
        if permanent or temporary:
            self.assertEqual(self.bounce.scan_message(found), permanent)

    @settings(deadline=None, max_examples=100)
    @given(st.sampled_from([Action.DELIVERED, Action.RELAYED, Action.EXPANDED]), HOSTILE)
    def test_no_failure(self, action: Action, words: str) -> None:
        """A DSN of success is no failure of anybody, whatever the host said."""
        status = DeliveryStatus(action, "2.0.0", Reason.RELAYED, words, "mx.example.net", "", True)
        report = made([dsn.Outcome(Recipient(JOE, JOE), status)], Envelope(JOE), False, False)
        self.assertEqual(self.bounce.all_failures(email.message_from_bytes(report.content)), (set(), set()))


class ParserTests(SynchronousTestCase):
    """Python's ``email``."""

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(outcomes(ADDRESSES | WORLD), min_size=1, max_size=5, unique_by=lambda one: one.recipient.original),
        ENVELOPES,
        st.booleans(),
        st.booleans(),
    )
    def test_read(self, told: list[dsn.Outcome], envelope: Envelope, postmaster: bool, whole: bool) -> None:
        """It is a multipart/report of three parts without a defect; each recipient's fields are read back."""
        report = made(told, envelope, postmaster, whole)
        mail = email.message_from_bytes(report.content, policy=email.policy.default)
        self.assertEqual(
            (mail.get_content_type(), mail.get_param("report-type")), ("multipart/report", "delivery-status")
        )
        self.assertEqual(mail.defects, [])
        parts = cast("list[EmailMessage]", list(mail.iter_parts()))
        self.assertEqual(len(parts), 3)
        self.assertEqual(parts[0].get_content_type(), "text/plain")
        person = parts[0].get_content()
        for one in told:
            self.assertIn(f"<{one.recipient.original}>", person)
        world = not all(one.recipient.original.is_ascii for one in told)
        self.assertEqual(
            parts[1].get_content_type(), "message/global-delivery-status" if world else "message/delivery-status"
        )
        message, *recipients = blocks(parts[1], report.content, str(mail.get_boundary()), world)
        self.assertEqual(message["Reporting-MTA"], "dns; mx.example.org")
        self.assertEqual(bool(message["Original-Envelope-Id"]), bool(one_line(envelope.envid).strip()))
        self.assertEqual(len(recipients), len(told))
        for one, block in zip(told, recipients, strict=True):
            original = one.recipient.original
            kind = "rfc822" if original.is_ascii else "utf-8"
            self.assertEqual(block["Final-Recipient"], f"{kind};{original}")
            self.assertEqual(block["Original-Recipient"], one.recipient.orcpt or None)
            self.assertEqual(block["Action"], str(one.status.action))
            self.assertRegex(block["Status"], r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z")
            self.assertEqual(block["Last-Attempt-Date"] is None, one.tried is None)
            will = one.will_retry_until if one.status.action is Action.DELAYED else None
            self.assertEqual(block["Will-Retry-Until"] is None, will is None)


def blocks(part: Message, octets: bytes, boundary: str, world: bool) -> list[Message]:
    """The field groups of the second part. Python knows message/delivery-status, not its sister of RFC 6533, which is
    cut out by hand."""
    if not world:
        return cast("list[Message]", part.get_payload())
    section = octets.split(b"--" + boundary.encode())[2].partition(b"\r\n\r\n")[2]
    if part["Content-Transfer-Encoding"] == "quoted-printable":
        section = quopri.decodestring(section)
    text = section.decode("utf-8").replace("\r\n", "\n").strip("\n")
    return [email.message_from_string(block) for block in text.split("\n\n")]
