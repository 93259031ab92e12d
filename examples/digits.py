"""A small network that reads handwritten digits (pip install scikit-learn), or else parts three spirals.

python examples/digits.py [PICTURE]
"""

import sys
from pathlib import Path

import koubai as kb
from koubai import nn
from koubai.errors import MissingPackageError

try:
    X, y = nn.digits()
    epochs = 15
except MissingPackageError as error:
    print(f"{error}: three spirals take their place")
    X, y = nn.spirals(600)
    epochs = 60
train, held = nn.split(X, y, 0.2, stratified=True)
network = nn.Network([nn.Dense(64), nn.ReLU(), nn.Dense(y.max() + 1)], nn.CrossEntropy(), seed=0)
network.build(X[0].shape)
print(f"before: {network.score(*held):.1%} right of {len(held[1])} samples that it never trains on")
run = network.fit(*train, kb.Adam(lr=5e-3), epochs=epochs, validation=held)
print(f"after {epochs} epochs: {network.score(*held):.1%}")
print(network.check_gradient(X[:20], y[:20]))

figure = kb.plot.training(network, run, *held)
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "out/digits.png")
picture.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(picture)
print(f"wrote {picture}")
