"""Speed and memory of every objective against its floor and its peers, measured in one run."""
