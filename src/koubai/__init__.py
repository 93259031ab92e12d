"""koubai (勾配, "gradient"): gradient descent that people can see, trust and use."""

__version__ = "0.1.0"
