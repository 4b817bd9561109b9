"""From an artifact to answers: image bytes in, classes with probabilities out."""
