"""Objectives of the tagging family."""
