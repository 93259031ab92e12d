"""What NumPy's functions do to traced values, a file per family: importing this fills the table of handled functions.

`polynomial_bases` is loaded when a traced function first meets ``numpy.polynomial``.
"""

from koubai.graph.numpy import (
    creation,
    fft,
    functional,
    indexing,
    joining,
    linalg,
    logic,
    nanfunctions,
    polynomials,
    products,
    reductions,
    sampled,
    shapes,
    sorting,
    special,
    statistics,
    ufuncs,
)

__all__ = [
    "creation",
    "fft",
    "functional",
    "indexing",
    "joining",
    "linalg",
    "logic",
    "nanfunctions",
    "polynomials",
    "products",
    "reductions",
    "sampled",
    "shapes",
    "sorting",
    "special",
    "statistics",
    "ufuncs",
]
