"""The rules: what was seen of a training, moment by moment, becomes findings; live and from the records alike."""
