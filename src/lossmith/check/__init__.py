"""The laws every loss must obey, the examples they are tried on, the report."""
