"""Tests of the training: the loop, its checkpoints, the optimizer and the evaluation."""
