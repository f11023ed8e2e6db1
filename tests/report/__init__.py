"""What we tell others: tests of delivery status notifications."""
