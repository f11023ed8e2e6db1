"""What mail of local domains is signed with: keys, their records in the DNS, and the queue's door where it is done."""
