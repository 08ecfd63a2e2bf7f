"""Networks of the paper. Inside, time comes first: ``[T, B, ...]``."""
