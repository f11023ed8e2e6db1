"""NOTIFY of an alias that leads to several addresses (RFC 3461 section 5.2.7.3, way c).

Each of them takes the parameters over, without SUCCESS: else the sender would get a DSN from each, and learn who
stands behind the alias. Where SUCCESS was asked for the sender is told once that the alias was *expanded*. For that a
recipient of its own stands for the alias among those of the mail: it is kept with them, in the same commit, and the
first attempt closes it with a DSN, so that no crash loses it.

An alias that leads to one address passes the parameters on as they are (section 5.2.7.2).
"""

from __future__ import annotations

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.smtp.extensions import RcptParameters


def expanded(
    forward_path: Address, resolution: Resolution, parameters: RcptParameters
) -> tuple[RcptParameters, Recipient | None]:
    """The parameters for those behind an address, and who stands for the address itself, if anybody must.

    NOTIFY=SUCCESS alone becomes NEVER: without NOTIFY they would be told of failures, which the sender did not want.
    """
    if len(resolution.targets) < 2 or "SUCCESS" not in parameters.notify:
        return parameters, None
    rest = tuple([word for word in parameters.notify if word != "SUCCESS"]) or ("NEVER",)
    return parameters._replace(notify=rest), Recipient(forward_path, forward_path, *parameters, expanded=True)
