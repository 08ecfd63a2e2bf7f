"""Constrained backpropagation: everything the paper adds to a training loop.

Three steps for any network: ``prepare`` (or the ``Cbp`` callback, which calls it), train,
``convert``. This package imports nothing of the rest of the suite.
"""
