"""Measurements: `make bench`. None of it is installed."""
