"""The node as a whole: real processes, real sockets on loopback, real files."""
