"""Problem 1: learning rates and batch sizes on FashionMNIST."""
