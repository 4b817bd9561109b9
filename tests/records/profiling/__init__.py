"""The rules and the verdict of the profiler, on records with known answers."""
