"""Recipes: every number of every run, with its source."""
