"""One file per family: column roles, reference models, how outputs meet a loss and a metric."""
