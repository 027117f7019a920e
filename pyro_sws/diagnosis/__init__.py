"""What can be believed of a finished run: its diagnostics, and their folder. Drivers."""
