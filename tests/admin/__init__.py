"""The operator's side: control socket, command line, test mail, sink."""
