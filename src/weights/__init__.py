"""Weights in and out: what others publish as weights of these networks, and these networks as others' files."""
