"""What we tell others: delivery status notifications."""
