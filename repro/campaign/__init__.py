"""A whole tier in slices of time, on one machine after another."""
