"""What limits a training, judged from its records alone: the rules of the profiler, the verdict, the outliers."""
