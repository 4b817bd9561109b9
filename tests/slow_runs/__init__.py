"""Trainings with one planted slowness each, and their healthy twins."""
