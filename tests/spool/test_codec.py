"""Any envelope, recipient and delivery status survives the spool unchanged; damaged text is a ValueError (T14, T18)."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.codec import (
    decode_envelope,
    decode_recipient,
    decode_status,
    encode_envelope,
    encode_recipient,
    encode_status,
)

# Every character, also NUL, line ends, and the lone surrogates that stand for octets which are no UTF-8.
texts = st.text(st.characters(codec=None, exclude_categories=()))
addresses = st.builds(Address, texts, texts)
times = st.just(0.0) | st.floats(0, 1e11)
recipients = st.builds(
    Recipient,
    addresses,
    addresses,
    st.lists(st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"]), unique=True).map(tuple),
    texts,
    st.booleans(),
)
envelopes = st.builds(
    Envelope,
    st.none() | addresses,
    st.lists(recipients, max_size=4).map(tuple),
    st.sampled_from(["7BIT", "8BITMIME", "BINARYMIME"]),
    st.booleans(),
    st.sampled_from(["FULL", "HDRS", None]),
    *[texts] * 6,
    account=texts,
    tls=texts,
    require_tls=st.booleans(),
    release_at=times,
    deliver_by=times,
    by_mode=st.sampled_from(["", "N", "R"]),
    by_trace=st.booleans(),
    priority=st.integers(-9, 9),
    tls_optional=st.booleans(),
    quarantine=texts,
)
statuses = st.builds(
    DeliveryStatus,
    st.sampled_from(Action),
    texts,
    st.sampled_from(Reason),
    *[texts] * 3,
    st.booleans(),
    st.booleans(),
    texts,
    st.booleans(),
)


class RoundTripTests(SynchronousTestCase):
    @given(envelopes)
    def test_envelope(self, envelope: Envelope) -> None:
        """An envelope comes back as it was, with its recipients."""
        text = encode_envelope(envelope)
        kept = tuple(decode_recipient(encode_recipient(recipient)) for recipient in envelope.recipients)
        self.assertEqual(decode_envelope(text, kept), envelope)
        self.assertTrue(text.isascii())

    @given(recipients)
    def test_recipient(self, recipient: Recipient) -> None:
        """A recipient comes back as it was, in the types it had."""
        decoded = decode_recipient(encode_recipient(recipient))
        self.assertEqual(decoded, recipient)
        self.assertIsInstance(decoded.address, Address)
        self.assertIsInstance(decoded.original, Address)
        self.assertIsInstance(decoded.notify, tuple)

    @given(addresses)
    def test_plain_recipient(self, address: Address) -> None:
        """A recipient without DSN parameters and alias takes no more room than its address."""
        text = encode_recipient(Recipient(address, address))
        self.assertEqual(decode_recipient(text), Recipient(address, address))
        self.assertLessEqual(len(text), len(encode_recipient(Recipient(address, address, ("NEVER",)))))

    @given(st.none() | statuses)
    def test_status(self, status: DeliveryStatus | None) -> None:
        """A delivery status comes back as it was, in the types it had, but for our own address, which is not kept."""
        decoded = decode_status(encode_status(status))
        self.assertEqual(decoded, status and status._replace(source=""))
        if decoded is not None:
            self.assertIsInstance(decoded.action, Action)
            self.assertIsInstance(decoded.reason, Reason)

    def test_line_ends(self) -> None:
        """ORCPT and ENVID with line ends in them stay one text of one row (T14)."""
        wicked = "rfc822;joe\r\nRCPT TO:<ann@example.org>\x00"
        recipient = Recipient(Address("joe", "example.org"), Address("joe", "example.org"), (), wicked)
        text = encode_recipient(recipient)
        self.assertEqual(decode_recipient(text).orcpt, wicked)
        self.assertEqual((text.count("\n"), text.count("\r"), text.count("\0")), (0, 0, 0))


class FormTests(SynchronousTestCase):
    """What format 2 added to format 1."""

    def test_common_mail_stays_short(self) -> None:
        """Mail without TLS, account and wishes has the text of format 1; TLS and account add two fields, no more."""
        joe = Address("joe", "example.org")
        common = Envelope(joe, client="192.0.2.9", helo="client.example", protocol="ESMTP", session="s1", listener="mx")
        text = '[["joe","example.org"],"7BIT",false,null,"","192.0.2.9","client.example","ESMTP","s1","mx"]'
        self.assertEqual(encode_envelope(common), text)
        self.assertEqual(encode_envelope(replace(common, tls="TLSv1.3")), text[:-1] + ',"","TLSv1.3"]')
        self.assertEqual(len(json.loads(encode_envelope(replace(common, priority=1)))), 18)
        self.assertEqual(json.loads(encode_envelope(replace(common, tls_optional=True)))[18:], [True])
        self.assertEqual(json.loads(encode_envelope(replace(common, quarantine="dmarc")))[18:], [False, "dmarc"])
        status = DeliveryStatus(Action.DELAYED, "4.0.0", Reason.INTERNAL, "words")
        self.assertEqual(encode_status(status), '["delayed","4.0.0","internal","words","","",false,false]')
        for more in ({"tls": "TLSv1.3"}, {"by_passed_on": True}):
            self.assertEqual(decode_status(encode_status(status._replace(**more))), status._replace(**more))

    def test_other_lengths(self) -> None:
        """A list that is a field short of a form is damaged, not guessed at."""
        whole = json.loads(encode_envelope(Envelope(None, priority=1)))
        status = json.loads(encode_status(DeliveryStatus(Action.DELAYED, "", Reason.INTERNAL, "", tls="x")) or "")
        for length in range(len(whole) + 4):
            text = json.dumps([*whole, 0, 0, 0][:length])
            if length in (10, 12, 18):
                self.assertEqual(decode_envelope(text, ()).body, "7BIT")
            else:
                self.assertRaises(ValueError, decode_envelope, text, ())
        for length in range(len(status) + 3):
            text = json.dumps([*status, 0, 0][:length])
            if length in (8, 10):
                self.assertIsNotNone(decode_status(text))
            else:
                self.assertRaises(ValueError, decode_status, text)


class DamageTests(SynchronousTestCase):
    @given(st.data())
    def test_cut(self, data: st.DataObject) -> None:
        """A text that is cut short is a ValueError, at every place."""
        address = Address("joe", "example.org")
        status = DeliveryStatus(Action.DELAYED, "4.0.0", Reason.INTERNAL, "words")
        for text, decode in (
            (encode_envelope(Envelope(address)), lambda text: decode_envelope(text, ())),
            (encode_recipient(Recipient(address, address)), decode_recipient),
            (encode_recipient(Recipient(address, address, ("NEVER",))), decode_recipient),
            (encode_status(status) or "", decode_status),
        ):
            cut = data.draw(st.integers(0, len(text) - 1))
            self.assertRaises(ValueError, decode, text[:cut])

    @given(texts)
    def test_anything(self, text: str) -> None:
        """Any text is decoded or is a ValueError, nothing else."""
        for decode in (lambda text: decode_envelope(text, ()), decode_recipient, decode_status):
            try:
                decode(text)
            except ValueError:
                continue
            self.assertTrue(text)

    def test_other_json(self) -> None:
        """JSON of another form is a ValueError."""
        for text in ("null", "{}", "[]", "7", '"joe"', "[1,2,3]", "[[1]]", "[null,null,null,null,null,null,null]"):
            self.assertRaises(ValueError, decode_envelope, text, ())
            self.assertRaises(ValueError, decode_recipient, text)
            self.assertRaises(ValueError, decode_status, text)
