"""How fast, against the plain ways of doing the same: ``python -m benchmarks``."""
