"""Losses over the similarities of a batch, by blocks of rows and in linear memory."""
