"""Neurons on a GPU: kernels by Triton, under the names of the definitions."""
