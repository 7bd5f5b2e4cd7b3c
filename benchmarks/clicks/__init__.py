"""What clicks are worth."""
