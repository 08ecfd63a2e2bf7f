"""Kernels of the products for the CPU, written for vectors of a fixed length (``vector``)."""
