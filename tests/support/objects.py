"""Idioms: classes that people write: vectors, dual numbers, layers, models, configurations."""

from .writing import idiom

idiom(
    "a vector class",
    """
class Vector:
    def __init__(self, *parts):
        self.parts = parts

    def __add__(self, other):
        return Vector(*(p + q for p, q in zip(self.parts, other.parts)))

    def __mul__(self, k):
        return Vector(*(k * p for p in self.parts))

    __rmul__ = __mul__

    def __matmul__(self, other):
        return sum(p * q for p, q in zip(self.parts, other.parts))

    def __abs__(self):
        return math.sqrt(self @ self)

    def __iter__(self):
        return iter(self.parts)

    def __getitem__(self, i):
        return self.parts[i]

    def __len__(self):
        return len(self.parts)

    def __neg__(self):
        return Vector(*(-p for p in self.parts))

origin = Vector(1.0, $a, 2.0)

def f(x):
    v = Vector($u, $w, math.sin($u)) + 2 * origin
    return abs(v) + (-v)[0] ** 2 + len(v) * sum(v)

def change():
    origin.parts = (0.0, $e, 1.0)
""",
)
idiom(
    "dual numbers in f",
    """
class Dual:
    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def __add__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    __radd__ = __add__

    def __mul__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    __rmul__ = __mul__

def f(x):
    s = Dual(np.sum(x), 1.0)
    y = $a * s * s * s + s
    return y.slope + np.sum(x**2)
""",
)
idiom(
    "a tape in f",
    """
class Variable:
    def __init__(self, data, parents=(), grads=()):
        self.data, self.parents, self.grads, self.grad = data, parents, grads, 0.0

    def __mul__(self, other):
        return Variable(self.data * other.data, (self, other), (other.data, self.data))

    def __add__(self, other):
        return Variable(self.data + other.data, (self, other), (1.0, 1.0))

    def backward(self, g=1.0):
        self.grad = self.grad + g
        for parent, slope in zip(self.parents, self.grads):
            parent.backward(g * slope)

def f(x):
    s = Variable(np.sum(x))
    y = s * s * s + s * Variable($a)
    y.backward()
    return s.grad + np.sum(x**2)
""",
)
idiom(
    "a class of numbers with units",
    """
class Metres:
    scale = $a

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return float(self.value * self.scale)

    def __lt__(self, other):
        return self.value < other.value

    def __sub__(self, other):
        return Metres(self.value - other.value)

def f(x):
    lengths = sorted(Metres(v) for v in np.ravel(x))
    return float(lengths[-1] - Metres(0.3)) ** 2 + np.sum(x**2)

def change():
    Metres.scale = $e
""",
)
idiom(
    "total_ordering",
    """
@functools.total_ordering
class Item:
    def __init__(self, cost):
        self.cost = cost

    def __eq__(self, other):
        return self.cost == other.cost

    def __lt__(self, other):
        return self.cost < other.cost

def f(x):
    items = [Item(v) for v in np.append(x, 0.1)]
    return max(items).cost ** 2 + $a * min(items).cost + np.sum(x**2)
""",
)
idiom(
    "an ordered dataclass",
    """
from dataclasses import dataclass, field

@dataclass(order=True)
class Item:
    cost: float
    name: str = field(compare=False)

def f(x):
    items = sorted(Item(v, str(i)) for i, v in enumerate(np.append(x, $a * 0.1)))
    return items[0].cost ** 2 + int(items[-1].name) * items[-1].cost + np.sum(x**2)
""",
)
idiom(
    "a dataclass made in f",
    """
from dataclasses import asdict, astuple, dataclass, replace

@dataclass($options)
class State:
    position: float
    speed: float = $a

    def step(self, dt):
        return replace(self, position=self.position + dt * self.speed, speed=self.speed - dt * self.position)

def f(x):
    state = State(np.sum(x))
    for _ in range(5):
        state = state.step(0.1)
    return sum(v * v for v in astuple(state)) + asdict(state)["speed"] + np.sum(x**2)
""",
    slots={"options": ("", "frozen=True", "slots=True", "frozen=True, slots=True")},
)
idiom(
    "a named tuple made in f",
    """
from collections import namedtuple

State = namedtuple("State", "x v")

def f(x):
    state = State(np.sum(x), $a)
    for _ in range(5):
        state = State(state.x + 0.1 * state.v, state.v - 0.1 * math.sin(state.x))
    p, q = state
    return p**2 + state._asdict()["v"] * state._replace(x=1.0).x + np.sum(x**2)
""",
)
idiom(
    "a network of layers",
    """
class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        return x @ self.W + self.b

class Tanh:
    def forward(self, x):
        return np.tanh(x)

class Network:
    def __init__(self, layers):
        self.layers = layers

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        return np.mean((self.predict(x) - t) ** 2)

net = Network([Affine(np.ones((2, 3)) * $a, np.zeros(3)), Tanh(), Affine(np.array([[1.0], [0.5], [$b]]), 0.1)])

def f(x):
    net.layers[0].W = np.outer([1.0, $c], np.append(x, [0.1, 0.2])[:3])
    return net.loss(np.array([[0.5, 1.0], [-1.0, 0.3]]), np.array([[0.2], [0.4]])) + np.sum(x**2)

def change():
    net.layers[2].W[0, 0] = $e
""",
)
idiom(
    "layers with a forward list",
    """
class Scale:
    def __init__(self, k):
        self.k = k

    def forward(self, x):
        return self.k * x

class Sine:
    def forward(self, x):
        return np.sin(x)

class Model:
    def __init__(self, *layers):
        self.layers = layers
        self.steps = [layer.forward for layer in layers]

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return $a * np.sum(x) + 1.0

model = Model(Scale($b), Sine())

def f(x):
    return model(x) + np.sum(x**2)

def change():
    model.layers[0].k = $e
""",
)
idiom(
    "parameters in an OrderedDict of layers",
    """
from collections import OrderedDict

class Layer:
    def __init__(self, w):
        self.params = {"w": w}

    def forward(self, x):
        return np.tanh(self.params["w"] * x)

net = OrderedDict()
net["one"] = Layer($a)
net["two"] = Layer($b)

def f(x):
    y = x
    for layer in net.values():
        y = layer.forward(y)
    return np.sum(y) + np.sum(x**2)

def change():
    net["two"].params["w"] = $e
""",
)
idiom(
    "a model that is fitted",
    """
class Curve:
    def __init__(self, t, y):
        self.t, self.y = np.asarray(t), np.asarray(y)

    def residuals(self, x):
        return self.y - (x[0] * np.exp(-self.t) + (x[-1] * self.t if len(x) > 1 else 0.0))

    def __call__(self, x):
        return 0.5 * np.sum(self.residuals(x) ** 2)

f = curve = Curve([0.0, 0.5, 1.0, 2.0], [2.0, 1.3, $a, 0.4])

def change():
    curve.y = curve.y + $b
""",
    forms=(2, 1, 3),
    alone=True,
)
idiom(
    "super().__init__ and __call__",
    """
class Loss:
    weight = 1.0

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return self.weight * self.value(x)

    def value(self, x):
        raise NotImplementedError

class Ridge(Loss):
    weight = $a

    def __init__(self, scale, shift):
        super().__init__(scale)
        self.shift = shift

    def value(self, x):
        return self.scale * np.sum((x - self.shift) ** 2) + np.sum(np.cos(x))

f = ridge = Ridge($b, $c)

def change():
    $change
""",
    slots={
        "change": ("ridge.scale = $e", "Ridge.weight = $e", "ridge.weight = $e", "ridge.value = lambda x: np.sum(x**3)")
    },
    alone=True,
)
idiom(
    "class attributes as configuration",
    """
class Config:
    MU = $a
    NAMES = ("a", "b")

    class Inner:
        GAIN = $b

def f(x):
    return Config.MU * np.sum(x**2) + Config.Inner.GAIN * np.sum(np.sin(x)) * len(Config.NAMES)

def change():
    Config.$change
""",
    slots={"change": ("MU = $e", "Inner.GAIN = $e", "NAMES = ('a',)")},
)
idiom(
    "a property with a setter",
    """
class Model:
    def __init__(self):
        self._x = None

    @property
    def x(self):
        return self._x

    @x.setter
    def x(self, value):
        self._x = $a * value

model = Model()

def f(x):
    model.x = x
    return np.sum(model.x**2) + np.sum(np.sin(model.x))
""",
)
idiom(
    "__setattr__",
    """
class Model:
    def __setattr__(self, name, value):
        object.__setattr__(self, name, $a * value)

model = Model()

def f(x):
    model.x = x
    return np.sum(model.x**2) + np.sum(x)
""",
)
idiom(
    "an object that f changes and reads",
    """
class Account:
    def __init__(self):
        self.total = 0.0

    def deposit(self, v):
        self.total = self.total + v
        return self

def f(x):
    account = Account()
    for v in np.ravel(x):
        account.deposit(v**2).deposit($a * v)
    return account.total**2 + np.sum(x)
""",
)
idiom(
    "an object that is reset at each call",
    """
class Account:
    total = 0.0

account = Account()

def f(x):
    account.total = 0.0
    for v in np.ravel(x):
        account.total += v**2 + $a * v
    return $b * account.total + np.sum(np.cos(x))
""",
)
idiom(
    "setattr and vars",
    """
class Box:
    pass

def f(x):
    box = Box()
    for i, v in enumerate(np.ravel(x)):
        setattr(box, f"p{i}", v)
    vars(box)["q"] = $a
    return sum(v * v for v in vars(box).values()) + box.p0
""",
)
idiom(
    "__array__",
    """
class Field:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values)

field = Field($vec)

def f(x):
    return np.sum((x - np.asarray(field)) ** 2) * $a + np.sum(field * np.sin(x))

def change():
    field.values = [v + 0.8 for v in field.values]
""",
)
idiom(
    "__array_ufunc__",
    """
class Logged(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, values):
        self.values = np.asarray(values)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [v.values if isinstance(v, Logged) else v for v in inputs]
        return Logged(getattr(ufunc, method)(*plain, **kwargs))

weights = Logged($vec)

def f(x):
    return np.sum((weights * 2.0).values * np.sin(x)) + np.sum(x**2)

def change():
    weights.values = weights.values * 2
""",
)
idiom(
    "an array subclass of x",
    """
class Field(np.ndarray):
    @property
    def energy(self):
        return np.sum(np.asarray(self) ** 2)

def f(x):
    return $a * np.asarray(x).view(Field).energy + np.sum(x)
""",
    forms=(2, 3),
)
idiom(
    "operators in a table",
    """
import operator

table = {"+": operator.add, "*": operator.mul, "-": operator.sub}
program = ["+", "*"]

def f(x):
    y = np.sum(x)
    for name in program:
        y = table[name](y, $a)
    return operator.pow(y, 2) + operator.neg(y) + np.sum(operator.matmul(np.ravel(x), np.ravel(x)))

def change():
    program.append("-")
""",
)
idiom(
    "a polynomial by Horner's rule",
    """
class Polynomial:
    def __init__(self, *coefficients):
        self.coefficients = list(coefficients)

    def __call__(self, v):
        total = 0.0
        for c in self.coefficients:
            total = total * v + c
        return total

p = Polynomial(0.3, $a, -0.5, $b)

def f(x):
    return np.sum(p(x)) + p(np.sum(x)) ** 2

def change():
    p.coefficients.append($e)
""",
)
idiom(
    "np.polynomial",
    """
p = np.polynomial.Polynomial([$a, -0.5, $b])

def f(x):
    return np.sum(p(x)) + np.sum(x**2)

def change():
    p.coef[0] += 1
    p.coef[1] += 1
""",
)
idiom(
    "a context manager around the work",
    """
class Phase:
    depth = 0

    def __enter__(self):
        Phase.depth += 1
        return Phase.depth

    def __exit__(self, *problem):
        Phase.depth -= 1

def f(x):
    with Phase() as outer:
        with Phase() as inner:
            return inner * $a * np.sum(x**2) + outer * np.sum(np.sin(x))

def probe():
    return Phase.depth
""",
)
idiom(
    "an iterator class",
    """
class Steps:
    def __init__(self, start, n):
        self.value, self.n = start, n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        self.value = 0.5 * self.value + math.cos(self.value)
        return self.value

def f(x):
    return $a * sum(Steps(np.sum(x), 4)) + np.sum(x**2)
""",
)
idiom(
    "isinstance of one's own classes",
    """
class Shape:
    pass

class Square(Shape):
    def __init__(self, side):
        self.side = side

class Circle(Shape):
    def __init__(self, radius):
        self.radius = radius

def area(shape):
    if isinstance(shape, Square):
        return shape.side**2
    if isinstance(shape, Circle):
        return math.pi * shape.radius**2
    raise TypeError(type(shape).__name__)

shapes = [Square($a), Circle($b)]

def f(x):
    return area(Square(np.sum(x))) + area(Circle($u)) + sum(map(area, shapes)) * np.sum(x**2)

def change():
    shapes[0].side = $e
""",
)
idiom(
    "identity of one's own objects",
    """
class Node:
    def __init__(self, value):
        self.value, self.children = value, []

root, leaf = Node($a), Node($b)
root.children.append(leaf)

def f(x):
    total, queue = 0.0, [root]
    while queue:
        node = queue.pop()
        total = total + node.value * (np.sum(x) if node is root else np.sum(x**2))
        queue.extend(node.children)
    return total + (leaf in root.children) * np.sum(x**2)

def change():
    leaf.value = $e
""",
)
idiom(
    "a graph as a dict",
    """
graph = {"a": ["b", "c"], "b": ["c"], "c": []}
length = {"a": $a, "b": $b, "c": $c}

def cost(node, s):
    return length[node] * s + sum(cost(child, 0.5 * s) for child in graph[node])

def f(x):
    return cost("a", np.sum(x)) ** 2 + np.sum(x**2)

def change():
    graph["c"].append("d")
    graph["d"] = []
    length["d"] = $e
""",
)
idiom(
    "weak references to data",
    """
import weakref

class Data:
    def __init__(self, mu):
        self.mu = mu

data = Data($a)
owner = weakref.WeakKeyDictionary({data: 1.0})

def f(x):
    return $F(sum(d.mu * w for d, w in owner.items()))

def change():
    data.mu = $e
""",
)
idiom(
    "a singleton",
    """
class Settings:
    _one = None

    def __new__(cls):
        if cls._one is None:
            cls._one = super().__new__(cls)
            cls._one.mu = $a
        return cls._one

def f(x):
    return $F(Settings().mu)

def change():
    Settings().mu = $e
""",
)
idiom(
    "a Borg",
    """
class Settings:
    _shared = {"mu": $a}

    def __init__(self):
        self.__dict__ = self._shared

def f(x):
    return $F(Settings().mu)

def change():
    Settings().mu = $e
""",
)
idiom(
    "an observer",
    """
class Knob:
    def __init__(self, value):
        self.value, self.listeners = value, []

    def set(self, value):
        self.value = value
        for listener in self.listeners:
            listener(value)

knob, derived = Knob($a), {"k": $a}
knob.listeners.append(lambda value: derived.update(k=value))

def f(x):
    return $F(derived["k"])

def change():
    knob.set($e)
""",
)
idiom(
    "parameters in a class made of text",
    """
Model = type("Model", (), {"mu": $a, "loss": lambda self, x: self.mu * np.sum(x**2) + np.sum(np.sin(x))})
model = Model()
f = model.loss

def change():
    Model.mu = $e
""",
    alone=True,
)
idiom(
    "an object in the argument's place of a partial",
    """
class Data:
    def __init__(self, t, y):
        self.t, self.y = t, y

data = Data(np.array($vec), np.array($other))

def loss(data, x):
    return np.sum((data.y - data.t * np.sum(x)) ** 2) + np.sum(x**2)

f = functools.partial(loss, data)

def change():
    data.y = data.y + $e
""",
    alone=True,
)
