"""Products of spikes with weights: what a convolution or a linear layer of a spiking network computes.

Definitions in plain torch stand here, kernels for the CPU in ``cpu/`` under the same names.
"""
