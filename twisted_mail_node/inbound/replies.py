"""What a session says (RFC 5321 section 4.2.3), and how its story ends."""

from __future__ import annotations

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

START_INPUT = Reply.make(354, "", "Send the message; end with CR LF . CR LF")
RESET = Reply.make(250, "2.0.0", "OK")
NOOP = Reply.make(250, "2.0.0", "OK")
BYE = Reply.make(221, "2.0.0", "Bye", Reason.QUIT)
VRFY = Reply.make(252, "2.5.0", "Cannot verify, but will take mail and try to deliver it")
VRFY_WHAT = Reply.make(501, "5.5.4", "VRFY what?", Reason.SYNTAX)
EXPN = Reply.make(502, "5.5.1", "EXPN is not offered here", Reason.NOT_IMPLEMENTED)
HELP = Reply.make(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 5321)")
TIMEOUT = Reply.make(421, "4.4.2", "Nothing came for too long; goodbye", Reason.TIMEOUT)
DEADLINE = Reply.make(421, "4.4.2", "This session has lasted too long; goodbye", Reason.SESSION_DEADLINE)
SHUTTING_DOWN = Reply.make(421, "4.3.2", "The server is stopping; please try again soon", Reason.SHUTTING_DOWN)
TOO_MANY_ERRORS = Reply.make(421, "4.7.0", "Too many errors; goodbye", Reason.TOO_MANY_ERRORS)
TOO_MANY_MAILS = Reply.make(421, "4.5.3", "Enough mails for one session; please connect again", Reason.POLICY)
BROKEN = Reply.make(421, "4.3.0", "Something broke here; please try again later", Reason.INTERNAL)
REFUSALS = {
    Reason.TOO_MANY_CONNECTIONS: Reply.make(
        421, "4.3.2", "All our connections are in use; please try again later", Reason.TOO_MANY_CONNECTIONS
    ),
    Reason.TOO_MANY_FROM_ADDRESS: Reply.make(
        421, "4.7.0", "Too many connections from your address", Reason.TOO_MANY_FROM_ADDRESS
    ),
    Reason.SHUTTING_DOWN: SHUTTING_DOWN,
}


class Ending(Exception):
    """Ends the story with a last reply."""

    def __init__(self, reply: Reply | None, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reply = reply
        self.reason = reason
