"""What was asked for and runs as processes of their own."""
