"""Sweeps without an account, on this machine or on a Ray cluster."""
