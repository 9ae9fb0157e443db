"""Objectives of the ranking family."""
