# twistd -ny tac/submission.tac: a node that takes mail from its own people only: they sign in, with STARTTLS or at once.
from pathlib import Path

from twisted.application.service import Application
from twisted.internet import reactor

from twisted_mail_node.service import MailNode
from twisted_mail_node.settings import development
from twisted_mail_node.tap import Daemon

application = Application("submission")
example = development(Path("var-submission"))
settings = example.model_copy(update={"listeners": tuple(one for one in example.listeners if one.kind == "submission")})
Daemon(MailNode(settings, reactor), reactor).setServiceParent(application)
