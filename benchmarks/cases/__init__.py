"""One file per group of rows; each defines ``CASES``."""
