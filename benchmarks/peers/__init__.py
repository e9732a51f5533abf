"""The same tasks with other libraries: each module is imported by its own process alone."""
