"""A running training as records: the debugger, the profiler, and the sampler of the machine beside them."""
