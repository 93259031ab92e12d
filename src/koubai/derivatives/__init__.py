"""Derivatives: by differences with an error estimate, and by checking a gradient that someone else wrote."""
