"""The process that has PyTorch imported and forks a job in 20 ms: see `pool`."""
