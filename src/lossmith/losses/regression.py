"""Objectives of the regression family."""
