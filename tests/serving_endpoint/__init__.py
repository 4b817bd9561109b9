"""Endpoints: supervised instances, changes under load, faults."""
