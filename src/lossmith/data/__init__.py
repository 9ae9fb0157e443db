"""Readers of the files people have, and the embedded corpus; every error says where."""
