"""Tests of the recipes: what was given stands, what contradicts is refused."""
