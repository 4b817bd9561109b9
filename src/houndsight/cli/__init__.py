"""The command line: one function a verb, above everything else."""
