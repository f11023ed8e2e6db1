"""Tests of twisted_mail_node.message.tls_required."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.tls_required import is_tls_optional


class TlsRequiredTests(SynchronousTestCase):
    def test_no(self) -> None:
        """``No`` in any case, folded or not, wherever it stands (RFC 8689 section 3)."""
        for field in (b"TLS-Required: No", b"tls-required:no", b"TLS-REQUIRED:\r\n NO", b"TLS-Required: \tNo\t "):
            for header in (field + b"\r\n", b"Subject: x\r\n" + field + b"\r\nTo: y\r\n"):
                self.assertTrue(is_tls_optional(header), header)

    def test_others(self) -> None:
        """Anything else, twice, or in another field says nothing."""
        no = b"TLS-Required: No\r\n"
        for header in (
            b"", b"TLS-Required: Yes\r\n", b"TLS-Required:\r\n", b"TLS-Required: No, really\r\n", no + no,
            no + b"TLS-Required: Yes\r\n", b"X-" + no, b"Subject: a\r\n " + no, b"TLS-Required: (x) No\r\n",
        ):  # fmt: skip
            self.assertFalse(is_tls_optional(header), header)
