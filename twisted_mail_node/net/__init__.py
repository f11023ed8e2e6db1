"""The network's side of the node: transports, limits of connections."""
