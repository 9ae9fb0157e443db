"""The training loop and what one training leaves behind."""
