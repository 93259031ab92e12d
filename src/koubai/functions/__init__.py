"""Functions to descend on: the catalogue of test functions, and expressions typed as text."""
