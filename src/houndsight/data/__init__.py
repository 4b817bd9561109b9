"""From a folder of labelled images to batches: finding, decoding, keeping and serving the pictures."""
