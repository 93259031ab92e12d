"""A rope under tension over hilly ground: the height of least energy, which is nowhere below the ground.

python examples/rope_over_a_hill.py [PICTURE]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import koubai as kb

STATION = np.linspace(0, 10, 81)  # in metres
GROUND = 1.5 * np.exp(-((STATION - 3) ** 2)) + np.exp(-((STATION - 7) ** 2) / 2)
SPACING = STATION[1] - STATION[0]


def energy(height, tension, weight):
    """Return what stretching and lifting the rope takes. tension: in N; weight: in N/m."""
    slope = np.diff(height) / SPACING
    return SPACING * (tension * np.sum(slope**2) / 2 + weight * np.sum(height))


bounds = [(low, None) for low in GROUND]
bounds[0] = bounds[-1] = (1.0, 1.0)  # both ends are held one metre up
start = np.maximum(GROUND, 1.0)
start[[0, -1]] = 1.0
plt.fill_between(STATION, GROUND, color="0.8")
for tension in (20, 60, 200):
    run = kb.minimize(energy, start, bounds=bounds, args=(tension, 9.81))
    clearance = run.x - GROUND
    touching = np.count_nonzero(clearance < 1e-9)
    print(f"{tension:3d} N: on the ground at {touching:2d} of 81 points, at most {clearance.max():.2f} m above it")
    plt.plot(STATION, run.x, label=f"{tension} N")
plt.legend()
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/rope_over_a_hill.png")
picture.parent.mkdir(parents=True, exist_ok=True)
plt.savefig(picture)
print(f"wrote {picture}; the last run: {run.status}, {run.nit} steps")
