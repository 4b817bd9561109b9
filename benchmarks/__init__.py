"""Measurements side by side: Houndsight and its reference in one run, reported as ratios of medians."""
