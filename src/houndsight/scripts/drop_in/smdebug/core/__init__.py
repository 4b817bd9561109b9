"""Where scripts find modes and configurations."""
