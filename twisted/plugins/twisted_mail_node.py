"""Tells twistd that there is a ``mailnode``."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

mailnode = ServiceMaker(
    "mailnode", "twisted_mail_node.tap", "A mail node: MX, submission, relay and Maildirs.", "mailnode"
)
