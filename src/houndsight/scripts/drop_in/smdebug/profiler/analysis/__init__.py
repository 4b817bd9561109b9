"""Profiles in notebooks."""
