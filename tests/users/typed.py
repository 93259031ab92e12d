"""What a type checker must take: `mypy --strict` and pyright find no fault here (tests/test_types.py)."""

from typing import Any

import numpy as np
import numpy.typing as npt

import koubai as kb
from koubai import nn

Array = npt.NDArray[np.float64]


def f(x: Array) -> float:
    return float(np.sum((x - 1) ** 2))


run: kb.Run = kb.minimize(f, [0.0, 0.0], kb.Adam(lr=0.1, beta1=0.8, eps=1e-9, amsgrad=True), max_steps=3)
status: kb.Status = run.status
steps: int = run.nit
lowest: float = run.best_fun
loaded = kb.minimize(f, {"a": np.zeros(2)}, kb.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0), record="off")
kb.SGD(lr=kb.schedules.cosine(0.1, 100), groups={"*.b": {"weight_decay": 0.0}}, semantics="keras")
kb.LBFGS(history_size=5, line_search="wolfe")
kb.Adam(lambda t: 0.1 / (1 + t)).update({"w": np.zeros(2)}, {"w": np.ones(2)})
optimizers: list[kb.optimizers.Optimizer] = [kb.Momentum(0.1), kb.Muon(rest="nadam"), kb.Adafactor(eps1=None)]

network = nn.Network([nn.Dense(3), kb.nn.ReLU(), nn.Dense(1)], nn.MSE(), seed=0)
trained: kb.Run = network.fit(np.zeros((4, 2)), np.zeros((4, 1)), "adam", epochs=1)


def loss(p: Array, x: Array) -> Any:
    return np.mean((x - p) ** 2)


fitted: kb.Run = kb.fit(loss, np.zeros(2), np.ones((8, 2)), epochs=1)
axes: Any = kb.plot.convergence(run)

estimate: kb.Estimate = kb.derivative(lambda x: x**2, 3.0, method="central")
value, gradient = kb.value_and_grad(f)(np.zeros(2))
explanation = kb.explain(f, np.zeros(2))
reason: str = explanation.executor_reason
kernels: tuple[str, ...] = explanation.kernels
for step in kb.iterate(f, [0.0, 0.0], lr=0.1):
    if step.f < 0.5:
        break
