"""Models written for other runtimes."""
