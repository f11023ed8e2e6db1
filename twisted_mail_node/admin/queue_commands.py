"""``mailnode queue``: look at the mails in the spool and change them.

A running node is asked through its control socket; while it is down the spool is opened directly.
"""

from __future__ import annotations

import click

from twisted_mail_node.admin.queue_changes import hold, release, remove, reroute, retry
from twisted_mail_node.admin.queue_freezing import freeze, frozen, thaw
from twisted_mail_node.admin.queue_listing import count, list_
from twisted_mail_node.admin.queue_show import show
from twisted_mail_node.admin.queue_top import top


@click.group()
def queue() -> None:
    """The mails in the spool."""


for _command in (list_, count, show, top, hold, release, retry, reroute, remove, freeze, thaw, frozen):
    queue.add_command(_command)
