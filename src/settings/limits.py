"""Limits that modules of several wings share."""

# Pixels of a side, from the smallest that every network here can halve often enough to the largest a recipe names.
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 299
