"""What we accept: verdicts, the chain that asks for them, and the policies that ship with the node."""
