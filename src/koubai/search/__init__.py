"""Search: which learning rate, which optimizer, which start. It only calls descents and derivatives."""
