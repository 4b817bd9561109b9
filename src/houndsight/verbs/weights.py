"""The cache of pretrained weights: list, add a file, fetch published ones; training and scripts share it."""
