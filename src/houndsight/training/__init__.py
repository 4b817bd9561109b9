"""From batches and a spec to trained weights and their evaluation."""
