"""Image sets: where they come from, and what they are as tensors."""
