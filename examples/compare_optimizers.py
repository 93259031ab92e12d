"""Six optimizers in one curved valley: how far each has come after 200 steps, and the way that it took.

python examples/compare_optimizers.py [PICTURE]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import koubai as kb

valley = kb.problems["rosenbrock"]  # its minimum, 0, is at (1, 1)
optimizers = [
    kb.SGD(lr=0.001),
    kb.Momentum(lr=0.001),
    kb.Adagrad(lr=0.5),
    kb.RMSprop(lr=0.01),
    kb.Adam(lr=0.1),
    kb.LBFGS(),
]
runs = [kb.minimize(valley.f, valley.x0, optimizer, max_steps=200) for optimizer in optimizers]
names = [type(optimizer).__name__ for optimizer in optimizers]
for name, run in sorted(zip(names, runs, strict=True), key=lambda pair: pair[1].best_fun):
    print(f"{name:>9}: f = {run.best_fun:8.1e} after {run.nit:3d} steps ({run.nfev} evaluations), {run.status}")

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
kb.plot.paths(runs, labels=names, ax=left)
kb.plot.compare(runs, labels=names, ax=right)
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/compare_optimizers.png")
picture.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(picture)
print(f"wrote {picture}")
