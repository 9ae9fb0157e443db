"""One file per family: what a user is judged by; the direction of each is data."""
