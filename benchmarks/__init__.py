"""Speed: asv's suites, and comparisons with the peers."""
