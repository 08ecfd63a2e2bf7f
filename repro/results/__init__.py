"""Rows and what is computed from them."""
