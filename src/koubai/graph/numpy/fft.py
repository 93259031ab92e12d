"""Fourier transforms: the functions of ``np.fft`` along one axis as primitives, the others as compositions of them.

Between the transforms values are complex; the cotangent of a complex z is the g with dL = Re(Σ g dz), as in
``graph/ops.py``. The matrix of fft is symmetric, so its derivative is fft itself, without conjugation; that of rfft is
the real part of fft of the padded cotangent; that of irfft counts each frequency that stands for two twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, normalized_axis
from koubai.graph.numpy.joining import roll
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.ops import ANY, Index, Op, Shape, add_row, apply

__all__: list[str] = []

_OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _complex_like(dtype: Any) -> Any:
    return np.result_type(dtype, np.complex64)


def _real_like(dtype: Any) -> Any:
    return dtype.type(0).real.dtype


def _resized(x: Any, n: int, axis: int) -> Any:
    """Cut or pad with zeros to length n along an axis: the derivative of what the transform does with n=."""
    m = x.shape[axis]
    lead = (slice(None),) * axis
    if m >= n:
        return x if m == n else x[(*lead, slice(0, n))]
    whole = np.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)
    return apply("setitem", whole, x, index=Index((*lead, slice(0, m))))


def _along(name: str) -> Callable[..., Any]:
    """The rule of fft or ifft: the same transform of the cotangent."""

    def vjp(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: str) -> Any:
        return _resized(apply(name, g, n=n, axis=axis, norm=norm), x.shape[axis], axis)

    return vjp


def _rfft_vjp(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: str) -> Any:
    return _resized(np.real(apply("fft", g, n=n, axis=axis, norm=norm)), x.shape[axis], axis)


def _irfft_vjp(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: str) -> Any:
    spectrum = np.conjugate(apply("rfft", g, n=n, axis=axis, norm=_OPPOSITE[norm]))
    twice = np.full(n // 2 + 1, 2.0, g.dtype)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    spectrum = spectrum * twice.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    return _resized(spectrum, x.shape[axis], axis)


def _code(name: str) -> Callable[..., str]:
    def code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
        rest = f", norm={params['norm']!r}" if params["norm"] != "backward" else ""
        return f"{y} = np.fft.{name}({args[0]}, {params['n']}, {params['axis']}{rest})"

    return code


def _transform(name: str, vjp: Callable[..., Any], length: Callable[[int], int], dtype: Callable[[Any], Any]) -> None:
    call: Callable[..., Any] = getattr(np.fft, name)

    def shape(x: Shape, *, n: int, axis: int, norm: str) -> Shape:
        return (*x[:axis], length(n), *x[axis + 1 :])

    add_row(
        Op(
            name,
            lambda x, *, n, axis, norm: call(x, n, axis, norm),
            (vjp,),
            shape=shape,
            code=_code(name),
            domain=(ANY,),
            dtype=dtype,
            examples=EXAMPLES if name == "irfft" else (),
        )
    )


EXAMPLES: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((4,),), {"n": 6, "axis": 0, "norm": "backward"}),
    (((4,),), {"n": 7, "axis": 0, "norm": "ortho"}),
    (((2, 3),), {"n": 8, "axis": 1, "norm": "forward"}),
    (((3, 2),), {"n": 3, "axis": 0, "norm": "backward"}),
)
_transform("fft", _along("fft"), lambda n: n, _complex_like)
_transform("ifft", _along("ifft"), lambda n: n, _complex_like)
_transform("rfft", _rfft_vjp, lambda n: n // 2 + 1, _complex_like)
_transform("irfft", _irfft_vjp, lambda n: n, _real_like)


def _floating(a: Any) -> Any:
    a = array(a)
    return a.astype(np.float64) if a.dtype.kind in "biu" else a


def _one(name: str, a: Any, n: int | None, axis: int, norm: str | None) -> Any:
    x = _floating(a)
    axis = normalized_axis(axis, x.ndim)
    norm = norm or "backward"
    if norm not in _OPPOSITE:
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    if n is None:
        n = 2 * (x.shape[axis] - 1) if name == "irfft" else x.shape[axis]
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    return apply(name, x, n=int(n), axis=axis, norm=norm)


def _enter(name: str) -> None:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
        return finish(_one(name, a, n, axis, norm), None, out)

    implements(getattr(np.fft, name))(transform)


for _name in ("fft", "ifft", "rfft", "irfft"):
    _enter(_name)


@implements(np.fft.hfft)
def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    return finish(_one("irfft", conjugated(array(a)), n, axis, _OPPOSITE[norm or "backward"]), None, out)


@implements(np.fft.ihfft)
def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    return finish(np.conjugate(_one("rfft", a, n, axis, _OPPOSITE[norm or "backward"])), None, out)


# --- several axes: one after the other, as NumPy does
def _sizes(x: Any, s: Any, axes: Any, last_halved: bool) -> tuple[list[int], list[int]]:
    """Return the lengths and the axes of a transform over several axes."""
    chosen = list(range(-len(s), 0) if s is not None else range(x.ndim)) if axes is None else list(axes)
    places = [normalized_axis(i, x.ndim) for i in chosen]
    if s is None:
        sizes = [x.shape[i] for i in places]
        if last_halved:
            sizes[-1] = 2 * (sizes[-1] - 1)
    else:
        sizes = [x.shape[i] if m == -1 else int(m) for m, i in zip(s, places, strict=True)]
    return sizes, places


def _several(name: str, default: Any) -> Callable[..., Any]:
    inverse = "ifft" if name.startswith("i") else "fft"

    def transform(a: Any, s: Any = None, axes: Any = default, norm: str | None = None, out: Any = None) -> Any:
        x = _floating(a)
        sizes, places = _sizes(x, s, axes, name.startswith("irfft"))
        rest = list(zip(sizes, places, strict=True))
        if "rfft" not in name:
            for n, axis in reversed(rest):
                x = _one(inverse, x, n, axis, norm)
        elif name.startswith("irfft"):
            for n, axis in rest[:-1]:
                x = _one("ifft", x, n, axis, norm)
            x = _one("irfft", x, *rest[-1], norm)
        else:
            x = _one("rfft", x, *rest[-1], norm)
            for n, axis in reversed(rest[:-1]):
                x = _one("fft", x, n, axis, norm)
        return finish(x, None, out)

    return transform


for _name in ("fft2", "ifft2", "rfft2", "irfft2"):
    implements(getattr(np.fft, _name))(_several(_name, (-2, -1)))
for _name in ("fftn", "ifftn", "rfftn", "irfftn"):
    implements(getattr(np.fft, _name))(_several(_name, None))


def _shifted(x: Any, axes: Any, back: bool) -> Any:
    x = array(x)
    places = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    shifts = [-(x.shape[i] // 2) if back else x.shape[i] // 2 for i in places]
    return roll(x, tuple(shifts), tuple(places))


implements(np.fft.fftshift)(lambda x, axes=None: _shifted(x, axes, False))
implements(np.fft.ifftshift)(lambda x, axes=None: _shifted(x, axes, True))
