"""Symbols to bytes and back, with numpy alone: a file is decoded without torch or Pyro."""
