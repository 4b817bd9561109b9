"""The sampler, the hooks and the windows of the profiler, run for real."""
