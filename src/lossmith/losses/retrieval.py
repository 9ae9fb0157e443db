"""Objectives of the retrieval family."""
