"""Tests of what one instance does: reading, batching, answering, limits, life and death."""
