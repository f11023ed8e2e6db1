"""For the operator: the command line, the control socket and their answers."""
