"""Searching hyperparameters: many jobs, one search, an honest result; from a space to the best trial."""
