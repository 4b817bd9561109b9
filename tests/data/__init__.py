"""From a folder to batches: finding, decoding, keeping and serving pictures, good and bad ones."""
