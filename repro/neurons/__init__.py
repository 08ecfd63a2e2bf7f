"""Spiking neurons: pure steps and scans over time."""
