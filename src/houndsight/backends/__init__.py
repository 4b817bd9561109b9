"""Where a job runs: in this process, or in one of its own that outlives the command which started it."""
