"""A folder of images into one table of predictions."""
