"""Recipes: a plan as TOML, read and written, and the schema of what it may hold."""
