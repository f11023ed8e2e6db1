# twistd -ny tac/mx.tac: an MX for one domain, its settings written in Python.
from twisted.application.service import Application
from twisted.internet import reactor

from twisted_mail_node.service import MailNode
from twisted_mail_node.settings import development

application = Application("mx")
MailNode(development(), reactor).setServiceParent(application)
