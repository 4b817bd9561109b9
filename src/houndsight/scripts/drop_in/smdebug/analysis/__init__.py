"""Helpers of those who look at trials."""
