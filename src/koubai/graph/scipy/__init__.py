"""What SciPy's functions do to traced values, a file per part of SciPy.

A file is loaded when a traced function first meets its part of SciPy, and only then: koubai does not need SciPy.
"""
