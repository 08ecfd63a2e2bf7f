"""The machine that computes."""
