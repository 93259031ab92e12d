"""Fit a decaying oscillation to noisy measurements: the parameters and their standard errors.

python examples/fit_with_errors.py [PICTURE]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import koubai as kb

TRUE = {"amplitude": 2.0, "decay": 0.4, "frequency": 3.0}
NOISE = 0.15


def model(p, t):
    return p["amplitude"] * np.exp(-p["decay"] * t) * np.cos(p["frequency"] * t)


def misfit(p, t, y):
    return np.sum((model(p, t) - y) ** 2)


t = np.linspace(0, 6, 80)
y = model(TRUE, t) + NOISE * np.random.default_rng(1).standard_normal(t.size)
run = kb.minimize(misfit, {"amplitude": 1.0, "decay": 0.1, "frequency": 2.7}, args=(t, y))
print(f"{run.status} after {run.nit} steps of {run.optimizer.name}, gradient by {run.gradient_source}")
for name, value in run.x.items():
    print(f"{name:>9} = {value:.3f} ± {run.stderr[name]:.3f}   (true: {TRUE[name]})")
print(f"noise, from what the fit leaves: {np.sqrt(run.fun / (t.size - 3)):.3f}   (true: {NOISE})")

plt.errorbar(t, y, NOISE, fmt=".", color="0.6", label="measured")
plt.plot(t, model(run.x, t), label="fitted")
plt.legend()
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/fit_with_errors.png")
picture.parent.mkdir(parents=True, exist_ok=True)
plt.savefig(picture)
print(f"wrote {picture}")
