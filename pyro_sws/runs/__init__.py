"""Runs: executed, kept in a folder, read back, compared. Drivers."""
