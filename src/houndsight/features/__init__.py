"""The frozen part of a backbone, run once an image: between the decoded images and whatever trains a head."""
