"""Too small, right, too large: what koubai says of a learning rate, and the rate that it advises.

python examples/learning_rates.py [PICTURE]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import koubai as kb


def bowl(x):
    return 10 * (x[0] - 1) ** 2 + (x[1] + 2) ** 2


figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for lr, ax in zip((0.0002, 0.09, 0.12), axes, strict=True):
    run = kb.minimize(bowl, [-3.0, 4.0], lr=lr, max_steps=300)
    print(f"lr = {lr}: {run.message}\n{run.diagnose(lang='en').summary}\n")
    run.plot(ax, title=f"lr = {lr}: {run.status}")
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/learning_rates.png")
picture.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(picture)
print(f"wrote {picture}")
