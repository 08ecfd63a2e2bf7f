"""Neurons on the CPU: kernels by numba, under the names of the definitions."""
