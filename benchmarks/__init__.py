"""Scripts that print ratios against the textbook way, both measured in one run."""
