"""A gradient derived by hand, with a slip in it: which components are wrong, and the same by backpropagation.

python examples/check_a_gradient.py
"""

import numpy as np

import koubai as kb


def loss(w):
    """The cross-entropy of a softmax over three scores, the last one being right, and a penalty on large ones."""
    return np.log(np.sum(np.exp(w))) - w[2] + 0.1 * np.sum(w**2)


def by_hand(w):
    p = np.exp(w) / np.sum(np.exp(w))
    return p + 0.2 * w  # forgotten: minus 1 where the right score is


def corrected(w):
    return by_hand(w) - [0, 0, 1]


w = np.array([0.5, -1.0, 2.0])
check = kb.check_gradient(loss, by_hand, w)
print(check)
for wrong in check.wrong:
    print(f"component {wrong.index}: given {wrong.given:.6f}, expected {wrong.expected:.6f}")
print(kb.check_gradient(loss, corrected, w))
print("by backpropagation:", kb.grad(loss)(w))
print("which runs this program:")
print(kb.trace(loss, w).gradient().source())
