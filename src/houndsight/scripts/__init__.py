"""What runs inside a script's own process: the watcher of its training, and `smdebug` for scripts that import it."""
