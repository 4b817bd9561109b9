"""Houndsight: from a folder of labelled images to a tuned, inspected and deployed classifier."""
