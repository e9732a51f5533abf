"""Problem 2: what convolutional networks cost, and how proposals are made."""
