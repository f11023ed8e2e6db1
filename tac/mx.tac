# twistd -ny tac/mx.tac: a node whose settings are Python values.
from twisted.application.service import Application
from twisted.internet import reactor

from twisted_mail_node.service import MailNode
from twisted_mail_node.settings import development
from twisted_mail_node.tap import Daemon

application = Application("mx")
settings = development().model_copy(update={"hostname": "mx.mail.test"})
Daemon(MailNode(settings, reactor), reactor).setServiceParent(application)
