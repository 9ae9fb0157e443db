"""Objectives of the recommendation family."""
