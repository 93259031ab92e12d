"""Search: which start and which rate, by descents from many of them. It only calls descents and derivatives."""
