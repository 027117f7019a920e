"""Pictures, by what they are of; matplotlib."""
