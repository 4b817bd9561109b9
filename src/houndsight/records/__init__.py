"""What was seen while a job ran, as data: written by the running loop, read by the rules and the report."""
