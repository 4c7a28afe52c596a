"""Proof of a split: what its parts share, in names, samples and signals."""
