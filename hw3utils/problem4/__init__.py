"""Problem 4: weakly and semi-supervised learning."""
