"""What runs inside a script's own process: scripts that were never changed are watched, and keep their results."""
