"""Constrained backpropagation: everything the paper adds to a training loop.

Three steps for any network: ``prepare`` (or the ``Cbp`` callback, which calls it), train,
``convert``. Of the rest of the suite this package imports ``repro.products``, ``repro.device`` and
``repro.errors`` alone.
"""
