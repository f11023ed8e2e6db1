"""The server's side of an SMTP session (RFC 5321 section 4.1), without a network: octets in, events out.

``receive(octets)`` takes what the client sent; ``next_event()`` gives the next thing that happened, or ``None``
when more octets are needed; ``answer(reply)`` tells how the command was answered, which moves the session along
the ``ORDER`` table, and gives the octets to send. Replies are given in the order of the commands, so a caller that
collects their octets until ``next_event()`` gives ``None`` answers a pipelined group in one write (RFC 2920).
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.extensions import (
    NO_MAIL_PARAMETERS,
    NO_OFFERS,
    NO_RCPT_PARAMETERS,
    Offers,
    UnknownParameterError,
    mail_parameters,
    rcpt_parameters,
)
from twisted_mail_node.smtp.grammar import GrammarError, parse_helo, parse_path
from twisted_mail_node.smtp.occurrence import (
    Auth,
    AuthResponse,
    Chunk,
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Hello,
    MailFrom,
    Occurrence,
    Plain,
    RcptTo,
    StartTls,
    Wrong,
    XClient,
)
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.sasl import AUTH_LINE_MAX, from_base64
from twisted_mail_node.smtp.transparency import NewlineCheck, Unstuffer

#: RFC 5321 section 4.5.3.1.4 asks for 512 octets; SMTPUTF8, DSN and SIZE add to it (each RFC says how much).
COMMAND_LINE_MAX = 4096
#: A line without an end: after so many octets nothing sensible can follow.
GARBAGE_MAX = 65536
#: BDAT sizes have at most so many digits; more cannot be meant.
CHUNK_SIZE_DIGITS_MAX = 15

# (state, verb) → state after a positive answer; RFC 5321 section 4.1.4. What is missing is 503.
#   start: no EHLO yet    ready: no transaction    mail: MAIL was taken    rcpt: a recipient was taken
#   content: octets of DATA are coming             chunking: between two BDATs of one mail (RFC 3030)
ORDER: dict[tuple[str, str], str] = {
    ("start", "EHLO"): "ready",
    ("start", "HELO"): "ready",
    ("ready", "EHLO"): "ready",
    ("ready", "HELO"): "ready",
    ("ready", "MAIL"): "mail",
    ("ready", "STARTTLS"): "ready",  # and then "start" anew (RFC 3207 section 4.2)
    ("ready", "AUTH"): "ready",  # RFC 4954 section 4: not in a transaction
    ("start", "XCLIENT"): "start",
    ("ready", "XCLIENT"): "start",
    ("mail", "EHLO"): "ready",  # section 4.1.4: EHLO in a transaction acts as RSET
    ("mail", "HELO"): "ready",
    ("mail", "RCPT"): "rcpt",
    ("rcpt", "EHLO"): "ready",
    ("rcpt", "HELO"): "ready",
    ("rcpt", "RCPT"): "rcpt",
    ("rcpt", "DATA"): "content",
    ("rcpt", "BDAT"): "chunking",
    ("chunking", "BDAT"): "chunking",
    ("chunking", "EHLO"): "ready",
    ("chunking", "HELO"): "ready",
    ("start", "RSET"): "start",
    ("ready", "RSET"): "ready",
    ("mail", "RSET"): "ready",
    ("rcpt", "RSET"): "ready",
    ("chunking", "RSET"): "ready",
}
_OFFERED = frozenset(("STARTTLS", "AUTH", "XCLIENT"))
_ALWAYS = frozenset(("NOOP", "VRFY", "EXPN", "HELP", "QUIT"))
_NOT_HERE = frozenset(("STARTTLS", "AUTH", "XCLIENT", "ETRN", "ATRN", "TURN", "SEND", "SOML", "SAML", "BURL"))
_OTHER_PROTOCOLS = tuple(b"GET |POST |PUT |HEAD |OPTIONS |CONNECT |DELETE |PRI * HTTP|SSH-|PROXY ".split(b"|"))
_BINARY = (b"\x16", b"\0")  # what begins a TLS hello, and the third line of a PROXY header of version 2

_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 section 3.1

_DATA = Data()
_START_TLS = StartTls()
_NO_CHUNKS = NewlineCheck()  # stands where no BDAT was seen, so that an idle session holds no object for it

UNKNOWN = Reply.make(500, "5.5.2", "Command not known; HELP lists what is", Reason.UNKNOWN_COMMAND)
LINE_TOO_LONG = Reply.make(500, "5.5.2", "Line too long", Reason.LINE_TOO_LONG)
GARBAGE = Reply.make(421, "4.7.0", "Line without an end; goodbye", Reason.LINE_TOO_LONG)
BARE_NEWLINE = Reply.make(500, "5.5.2", "A line ends in CR LF; a bare CR or LF is not a line end", Reason.BARE_NEWLINE)
NOT_SMTP = Reply.make(421, "4.7.0", "This is SMTP; goodbye", Reason.NOT_SMTP)
NOT_TEXT = Reply.make(500, "5.5.2", "A command is ASCII, or UTF-8 with SMTPUTF8", Reason.SYNTAX)
NO_RECIPIENTS = Reply.make(554, "5.5.1", "No valid recipients", Reason.NO_RECIPIENTS)
DATA_ARGUMENT = Reply.make(501, "5.5.4", "DATA takes no argument", Reason.SYNTAX)
BDAT_SYNTAX = Reply.make(501, "5.5.4", "Write BDAT size, or BDAT size LAST; goodbye", Reason.SYNTAX)
QUIT_ARGUMENT = Reply.make(501, "5.5.4", "QUIT and RSET take no argument", Reason.SYNTAX)
UTF8_NEEDED = Reply.make(
    553, "5.6.7", "An address outside ASCII needs the SMTPUTF8 parameter of MAIL", Reason.SMTPUTF8_NEEDED
)
BINARY_NEEDS_CHUNKS = Reply.make(503, "5.5.1", "BODY=BINARYMIME needs BDAT, not DATA", Reason.BAD_SEQUENCE)
STARTTLS_ARGUMENT = Reply.make(501, "5.5.4", "STARTTLS takes no argument", Reason.SYNTAX)
ENCRYPTION_REQUIRED = Reply.make(
    538, "5.7.11", "Say STARTTLS first; passwords are taken under TLS only", Reason.ENCRYPTION_REQUIRED
)
SIGNED_IN_ALREADY = Reply.make(503, "5.5.1", "You have signed in already", Reason.BAD_SEQUENCE)
AUTH_SYNTAX = Reply.make(501, "5.5.4", "Write AUTH, a mechanism, and perhaps its initial response", Reason.SYNTAX)
BAD_BASE64 = Reply.make(501, "5.5.2", "This is not base64 (RFC 4648 section 4)", Reason.SYNTAX)
AUTH_CANCELLED = Reply.make(501, "5.7.0", "AUTH is cancelled", Reason.SIGN_IN_CANCELLED)
AUTH_TOO_LONG = Reply.make(500, "5.5.6", "The response is too long", Reason.LINE_TOO_LONG)
_SEQUENCE = {
    "start": Reply.make(503, "5.5.1", "Say EHLO first", Reason.BAD_SEQUENCE),
    "ready": Reply.make(503, "5.5.1", "MAIL comes first", Reason.BAD_SEQUENCE),
    "mail": Reply.make(503, "5.5.1", "A mail transaction is under way; RSET ends it", Reason.BAD_SEQUENCE),
    "rcpt": Reply.make(503, "5.5.1", "A mail transaction is under way; RSET ends it", Reason.BAD_SEQUENCE),
    "chunking": Reply.make(503, "5.5.1", "Chunks are under way; BDAT or RSET", Reason.BAD_SEQUENCE),
}


class ServerSession:
    """One SMTP session as the server sees its wire.

    :ivar state: where in the ORDER table the session is.
    :ivar offers: what depends on listener, TLS and peer; may be changed between two commands.
    """

    __slots__ = (
        "_at",
        "_binary",
        "_buffer",
        "_chunk",
        "_garbage",
        "_guarded",
        "_newlines",
        "_pending",
        "_responding",
        "_signed_in",
        "_unstuffer",
        "_utf8",
        "offers",
        "state",
    )

    def __init__(self, offers: Offers = NO_OFFERS) -> None:
        self._buffer = b""
        self.restart(offers)

    def restart(self, offers: Offers) -> None:
        """Begin anew, knowing nothing of what was said before: after STARTTLS (RFC 3207 section 4.2) or XCLIENT.

        Octets that came and were not looked at are forgotten: they were said before, and must not count after it.
        """
        self.offers = offers
        self.state = "start"
        self._buffer = b""
        self._responding = False
        self._signed_in = False
        self._guarded = False  # AUTH was said: what follows may be a password that is no command
        self._at = 0
        self._pending = ""  # the verb that waits for its answer
        self._unstuffer: Unstuffer | None = None
        self._chunk: tuple[int, bool] | None = None  # octets still to come of a BDAT, and LAST
        self._newlines = _NO_CHUNKS
        self._garbage = 0
        self._utf8 = False
        self._binary = False

    @property
    def buffered(self) -> int:
        """Octets received and not yet looked at."""
        return len(self._buffer) - self._at

    def receive(self, octets: bytes) -> None:
        """Take what the client sent."""
        if self._at == len(self._buffer):
            self._buffer = octets
        else:
            self._buffer = self._buffer[self._at :] + octets
        self._at = 0

    def next_event(self) -> Occurrence | None:
        """The next occurrence, or ``None`` when more octets are needed. Answer it before asking again."""
        if self._unstuffer is not None:
            return self._content(self._unstuffer)
        if self._chunk is not None:
            return self._chunk_content(*self._chunk)
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return self._unfinished_line() if at < len(buffer) else None
        self._at = end + 2
        if end == len(buffer) - 2:
            self._buffer, self._at = b"", 0
        if self._garbage:
            self._garbage = 0
            return AuthResponse(b"", AUTH_TOO_LONG) if self._responding else Wrong("", LINE_TOO_LONG)
        if end - at > COMMAND_LINE_MAX and end - at > self._line_max(buffer, at):
            return AuthResponse(b"", AUTH_TOO_LONG) if self._responding else Wrong("", LINE_TOO_LONG)
        if self._responding:
            return self._response(buffer[at:end])
        return self._command(buffer[at:end])

    def _line_max(self, buffer: bytes, at: int) -> int:
        """How long this line may be: AUTH and its responses carry tokens (RFC 4954 section 4)."""
        auth = self._responding or (self.offers.mechanisms and buffer[at : at + 5].upper() == b"AUTH ")
        return AUTH_LINE_MAX if auth else COMMAND_LINE_MAX

    def answer(self, reply: Reply) -> bytes:
        """Say how the last command was answered; gives the octets to send."""
        verb, self._pending = self._pending, ""
        if verb and reply.code < 400:
            self.state = ORDER[self.state, verb]
            if verb == "DATA":
                self._unstuffer = Unstuffer()
        return _octets(reply)

    def challenge(self, octets: bytes) -> bytes:
        """Ask the client for its next response in an AUTH exchange; gives the octets to send."""
        self._responding = True
        return b"334 " + binascii.b2a_base64(octets, newline=False) + b"\r\n"

    def end_auth(self, reply: Reply) -> bytes:
        """An AUTH exchange is over, well or not; gives the octets to send."""
        self._responding = False
        self._pending = ""
        self._signed_in = reply.code == 235
        return reply.octets()

    def peek(self) -> bytes:
        """What came and was not looked at: a PROXY header, before the session begins."""
        return self._buffer[self._at :]

    def skip(self, octets: int) -> None:
        """Forget so many octets of what ``peek`` shows."""
        self._at += octets

    def end_transaction(self) -> None:
        """The mail transaction is over (accepted, refused or given up): MAIL may come again."""
        if self.state != "start":
            self.state = "ready"
        self._pending = ""
        self._newlines = _NO_CHUNKS

    def _unfinished_line(self) -> Wrong | None:
        buffer, at = self._buffer, self._at
        if self.state == "start" and buffer.startswith(_BINARY, at):
            return Wrong("", NOT_SMTP, close=True)
        longest = COMMAND_LINE_MAX
        if len(buffer) - at > longest:
            longest = self._line_max(buffer, at)
        if len(buffer) - at > longest:
            # keep a last CR, it may be half of the line's end
            keep = 1 if buffer.endswith(b"\r") else 0
            if len(buffer) - at - keep <= longest:
                return None
            self._garbage += len(buffer) - at - keep
            self._buffer, self._at = buffer[len(buffer) - keep :], 0
            if self._garbage > GARBAGE_MAX:
                return Wrong("", GARBAGE, close=True)
        return None

    def _command(self, line: bytes) -> Occurrence:
        if self.state == "start" and line.startswith(_BINARY):
            return Wrong("", NOT_SMTP, close=True)
        if b"\n" in line or b"\r" in line:
            return Wrong("", BARE_NEWLINE)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return Wrong("", NOT_TEXT)
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        if verb == "AUTH":
            self._guarded = True
        if verb in _ALWAYS:
            if verb == "QUIT" and argument.strip():
                return Wrong(verb, QUIT_ARGUMENT)
            return Plain(verb, argument.strip())
        state = self.state
        if (state, verb) not in ORDER:
            return self._out_of_order(verb, argument, line)
        if verb in _OFFERED:
            return self._offered(verb, argument)
        try:
            match verb:
                case "MAIL":
                    return self._mail(argument)
                case "RCPT":
                    return self._rcpt(argument)
                case "DATA":
                    return self._data(argument)
                case "BDAT":
                    return self._bdat(argument)
                case "EHLO" | "HELO":
                    name = parse_helo(argument)
                    self._pending = verb
                    return Hello(name, verb == "EHLO")
                case _:  # RSET
                    if argument.strip():
                        return Wrong(verb, QUIT_ARGUMENT)
                    self._pending = verb
                    return Plain(verb, "")
        except UnknownParameterError as error:
            return Wrong(verb, Reply.make(555, "5.5.4", _sentence(error), Reason.BAD_PARAMETER))
        except GrammarError as error:
            return Wrong(verb, Reply.make(501, error.status, _sentence(error), Reason.SYNTAX))

    def _offered(self, verb: str, argument: str) -> Occurrence:
        """STARTTLS, AUTH and XCLIENT: known only where they are offered."""
        offers = self.offers
        if verb == "AUTH":
            return self._auth(argument)
        if verb == "STARTTLS" and offers.starttls:
            return Wrong(verb, STARTTLS_ARGUMENT) if argument else _START_TLS
        if verb == "XCLIENT" and offers.xclient:
            return XClient(argument)
        return Wrong(verb, _not_offered(verb))

    def _auth(self, argument: str) -> Occurrence:
        """RFC 4954 section 4."""
        if self._signed_in:
            return Wrong("AUTH", SIGNED_IN_ALREADY)
        if not self.offers.mechanisms:
            return Wrong("AUTH", ENCRYPTION_REQUIRED if self.offers.after_tls else _not_offered("AUTH"))
        words = argument.split()
        if not 1 <= len(words) <= 2 or not _MECHANISM.fullmatch(words[0]):
            return Wrong("AUTH", AUTH_SYNTAX)
        mechanism = words[0].upper()
        if len(words) == 1:
            return Auth(mechanism, None)
        initial = b"" if words[1] == "=" else from_base64(words[1])
        return Wrong("AUTH", BAD_BASE64) if initial is None else Auth(mechanism, initial)

    def _response(self, line: bytes) -> AuthResponse:
        if line == b"*":
            return AuthResponse(b"", AUTH_CANCELLED)
        octets = from_base64(line)
        return AuthResponse(b"", BAD_BASE64) if octets is None else AuthResponse(octets)

    def _mail(self, argument: str) -> Occurrence:
        path, words = parse_path(argument, "MAIL")
        parameters = mail_parameters(words, self.offers) if words else NO_MAIL_PARAMETERS
        if path is not None and not parameters.smtputf8 and not path.is_ascii:
            return Wrong("MAIL", UTF8_NEEDED)
        self._utf8 = parameters.smtputf8
        self._binary = parameters.body == "BINARYMIME"
        self._pending = "MAIL"
        return MailFrom(path, parameters)

    def _rcpt(self, argument: str) -> Occurrence:
        path, words = parse_path(argument, "RCPT")
        assert path is not None
        if not self._utf8 and not path.is_ascii:
            return Wrong("RCPT", UTF8_NEEDED)
        self._pending = "RCPT"
        return RcptTo(path, rcpt_parameters(words) if words else NO_RCPT_PARAMETERS)

    def _data(self, argument: str) -> Occurrence:
        if argument.strip():
            return Wrong("DATA", DATA_ARGUMENT)
        if self._binary:
            return Wrong("DATA", BINARY_NEEDS_CHUNKS)
        self._pending = "DATA"
        return _DATA

    def _bdat(self, argument: str) -> Occurrence:
        words = argument.split()
        size = words[0] if words else ""
        last = len(words) == 2 and words[1].upper() == "LAST"
        if not size.isdigit() or not size.isascii() or len(size) > CHUNK_SIZE_DIGITS_MAX or len(words) != 1 + last:
            # How many octets follow cannot be known: whatever comes next must not run as a command.
            return Wrong("BDAT", BDAT_SYNTAX, close=True)
        self._chunk = (int(size), last)
        if self.state != "chunking":  # the first chunk of a mail, or one whose octets are only to be passed over
            self._newlines = NewlineCheck()
        if (self.state, "BDAT") in ORDER:
            self._pending = "BDAT"
            return Chunk(int(size), last)
        return Chunk(int(size), last, NO_RECIPIENTS if self.state == "mail" else _SEQUENCE[self.state])

    def _out_of_order(self, verb: str, argument: str, line: bytes) -> Occurrence:
        if verb == "BDAT":
            # Its octets are consumed even so (RFC 3030 section 2); the answer comes after them.
            return self._bdat(argument)
        if verb == "DATA" and self.state == "mail":
            return Wrong(verb, NO_RECIPIENTS)
        if any(key[1] == verb for key in ORDER):
            return Wrong(verb, _SEQUENCE[self.state])
        if verb in _NOT_HERE:
            return Wrong(verb, _not_offered(verb))
        if self.state == "start" and line.startswith(_OTHER_PROTOCOLS):
            return Wrong("", NOT_SMTP, close=True)
        return Wrong("" if self._guarded else verb[:20], UNKNOWN)

    def _content(self, unstuffer: Unstuffer) -> Occurrence | None:
        if self._at == len(self._buffer):
            return None
        octets, self._at, ended = unstuffer.take(self._buffer, self._at)
        if self._at == len(self._buffer):
            self._buffer, self._at = b"", 0
        if not ended:
            return Content(octets) if octets else None
        self._unstuffer = None
        return EndOfContent(octets, unstuffer.bare)

    def _chunk_content(self, left: int, last: bool) -> Occurrence | None:
        if left == 0:
            self._chunk = None
            if last:
                self._newlines.end()
            return EndOfChunk(last, self._newlines.bare)
        octets = self._buffer[self._at : self._at + left]
        if not octets:
            return None
        self._at += len(octets)
        if self._at == len(self._buffer):
            self._buffer, self._at = b"", 0
        self._chunk = (left - len(octets), last)
        self._newlines.take(octets)
        return Content(octets)


#: The replies to MAIL, RCPT and DATA are nearly always the same few.
_octets = lru_cache(maxsize=256)(Reply.octets)


def _not_offered(verb: str) -> Reply:
    return Reply.make(502, "5.5.1", f"{verb} is not offered here", Reason.NOT_IMPLEMENTED)


def _sentence(error: GrammarError) -> str:
    words = str(error)
    return words[:1].upper() + words[1:]
