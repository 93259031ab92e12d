"""Gradient descent as the textbooks write it: a numerical derivative, a step against it, and again.

python examples/gradient_loop.py [PICTURE]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import koubai as kb


def f(x):
    return x**4 / 8 - x**2 - x / 2


x, lr = -0.5, 0.1
path = [x]
for step in range(100):
    slope = kb.derivative(f, x)  # by differences; it knows its own error
    if abs(slope) <= 1e-3:
        break
    if step % 3 == 0:
        print(f"step {step:2d}: x = {x: .6f}, f'(x) = {slope.value: .6f} ± {slope.error:.0e}")
    x = x - lr * slope.value
    path.append(x)
print(f"after {len(path) - 1} steps: x = {x:.4f}, f = {f(x):.4f}")

curve = np.linspace(-2.6, 2.9, 200)
plt.plot(curve, f(curve), color="0.6")
plt.plot(path, f(np.array(path)), "o-", markersize=4)
plt.title("From −0.5 the slope leads left, into the shallower of two valleys")
plt.xlabel("x")
plt.ylabel("f(x)")
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/gradient_loop.png")
picture.parent.mkdir(parents=True, exist_ok=True)
plt.savefig(picture)
print(f"wrote {picture}")
