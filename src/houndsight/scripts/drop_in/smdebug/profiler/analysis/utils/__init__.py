"""Profiles as tables."""
