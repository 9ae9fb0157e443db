"""One file per family: column roles, reference models, how outputs meet a loss and a metric."""

# The families that can be trained; a name needs no torch.
TASK_FAMILIES = (
    "classification",
    "tagging",
    "regression",
    "generation",
    "retrieval",
    "ranking",
    "recommendation",
)
