"""The verbs of Houndsight in Python; one file a few verbs, above the worker and below the command line."""
