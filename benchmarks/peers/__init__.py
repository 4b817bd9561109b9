"""Small programs that train with other projects' trainers, each run by that project's own Python; see `trainers`."""
