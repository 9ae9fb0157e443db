"""One file per family, one function per objective; the function is the truth."""
