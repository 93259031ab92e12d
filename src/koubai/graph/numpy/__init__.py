"""What NumPy's functions do to traced values, a file per family: importing this fills the table of handled functions.

`polynomial_bases` is loaded when a traced function first meets ``numpy.polynomial``.
"""

from koubai.graph.numpy import editing, fft, linalg, series, statistics

__all__ = ["editing", "fft", "linalg", "series", "statistics"]
