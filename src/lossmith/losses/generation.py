"""Objectives of the generation family."""
