"""What needs draws: trees for ArviZ, their summaries, leave-one-out, sensitivity."""
