# twistd -ny tac/node.tac: the node of $MAILNODE_SETTINGS, or of the development settings.
from twisted.application.service import Application

from twisted_mail_node.tap import Options, makeService

application = Application("mailnode")
makeService(Options()).setServiceParent(application)
