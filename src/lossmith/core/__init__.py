"""What every layer stands on: reduction, validation, metadata, the module face, numerics."""
