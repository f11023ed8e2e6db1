"""What happens in an SMTP session, as ``smtp.server`` tells it: commands, content, responses, and what is wrong."""

from __future__ import annotations

from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.smtp.extensions import MailParameters, RcptParameters
from twisted_mail_node.smtp.reply import Reply


class Hello(NamedTuple):
    """EHLO or HELO."""

    name: str
    extended: bool


class MailFrom(NamedTuple):
    """MAIL: a mail transaction begins."""

    reverse_path: Address | None
    parameters: MailParameters


class RcptTo(NamedTuple):
    """RCPT: one recipient."""

    forward_path: Address
    parameters: RcptParameters


class Data(NamedTuple):
    """DATA, in order: answer 354 or refuse."""


class Chunk(NamedTuple):
    """BDAT (RFC 3030): ``size`` octets follow as Content, then EndOfChunk. Answer after EndOfChunk.

    ``refusal``: the command came out of order; its octets come all the same, and this is the answer to give then.
    """

    size: int
    last: bool
    refusal: Reply | None = None


class Content(NamedTuple):
    """A piece of content, as it was before the client put dots in."""

    octets: bytes


class EndOfContent(NamedTuple):
    """The last piece of DATA's content. ``bare``: somewhere in the content a CR or LF stood alone."""

    octets: bytes
    bare: bool


class EndOfChunk(NamedTuple):
    """All octets of a BDAT came. ``bare``: a bare CR or LF was in this or an earlier chunk of the mail."""

    last: bool
    bare: bool


class Plain(NamedTuple):
    """RSET, NOOP, VRFY, EXPN, HELP or QUIT with its argument."""

    verb: str
    argument: str


class Wrong(NamedTuple):
    """A command that cannot be carried out; answer with ``reply``. ``close``: and end the session."""

    command: str
    reply: Reply
    close: bool = False


class StartTls(NamedTuple):
    """STARTTLS (RFC 3207). Answer it, begin the handshake, and ``restart`` the session."""


class Auth(NamedTuple):
    """AUTH (RFC 4954 section 4). ``initial``: the initial response, decoded; ``None`` when there is none.

    Lead the exchange with ``challenge``; ``end_auth`` ends it. Printed, it does not show the response.
    """

    mechanism: str
    initial: bytes | None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r})"


class AuthResponse(NamedTuple):
    """The client's response to a challenge, decoded. ``refusal``: there is none, and this is how the exchange ends.

    Printed, it does not show the response.
    """

    octets: bytes
    refusal: Reply | None = None

    def __repr__(self) -> str:
        return f"AuthResponse({self.refusal!r})"


class XClient(NamedTuple):
    """XCLIENT with its argument. Answer 220 and ``restart`` the session, or refuse."""

    argument: str


Occurrence = (
    Hello | MailFrom | RcptTo | Data | Chunk | Content | EndOfContent | EndOfChunk | Plain | Wrong
    | StartTls | Auth | AuthResponse | XClient
)  # fmt: skip
