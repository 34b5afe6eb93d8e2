"""Measurements against upstream's classes, printed as ratios of one run: `make bench`."""
