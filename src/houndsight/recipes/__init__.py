"""Combinations of settings that are known to work: functions from a spec to a complete spec."""
