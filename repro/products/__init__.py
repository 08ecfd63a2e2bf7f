"""Products of spikes with weights: convolutions and linear layers of spiking networks.

Definitions in plain torch stand here, kernels for the CPU in ``cpu/``, and ``dispatch`` chooses.
"""
