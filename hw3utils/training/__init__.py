"""Training one network, or many: the loop, its runs and schedules, and the cache of results."""
