"""Problem 3: transfer learning, the last layer alone against all layers."""
