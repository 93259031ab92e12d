"""Convolutions and filters after ``scipy.signal`` and ``scipy.ndimage``.

A convolution is a product of windows where the smaller factor is small, else a product of spectra, as in SciPy. Its
value is the same to rounding. The weights of a Gaussian filter are those of its width, which stays constant.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import koubai.graph.scipy.linalg  # noqa: F401 a filter with feedback is a band matrix
from koubai.graph.numpy.arguments import array, normalized_axis
from koubai.graph.numpy.joining import pad
from koubai.graph.numpy.shapes import flip, moveaxis
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.ops import apply
from koubai.graph.traced import Traced
from koubai.graph.twins import Twins
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.signal")
_IMAGES = Twins("scipy.ndimage")
_DIRECT = 2**18  # products, up to which windows cost less than spectra


def standin(value: Any) -> Any:
    found = _TWINS.standin(value)
    return _IMAGES.standin(value) if found is None else found


def _floating(a: Any) -> Any:
    a = array(a)
    return a.astype(np.float64) if a.dtype.kind in "biu" else a


# --- convolution
def _full(a: Any, b: Any, axes: Sequence[int], by_spectra: bool | None = None) -> Any:
    """The full convolution along ``axes``; along others the arrays have the same length, or one."""
    every = tuple(axes) == tuple(range(a.ndim))
    if by_spectra is None:
        by_spectra = a.size * b.size > _DIRECT
    if by_spectra or not every:
        shape = tuple(a.shape[i] + b.shape[i] - 1 for i in axes)
        if a.dtype.kind == "c" or b.dtype.kind == "c":
            return np.fft.ifftn(np.fft.fftn(a, shape, axes) * np.fft.fftn(b, shape, axes), shape, axes)
        return np.fft.irfftn(np.fft.rfftn(a, shape, axes) * np.fft.rfftn(b, shape, axes), shape, axes)
    if b.size > a.size:
        a, b = b, a
    padded = (
        np.pad(a, [(n - 1, n - 1) for n in b.shape])
        if type(a) is not Traced
        else pad(a, [(n - 1,) * 2 for n in b.shape])
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, b.shape)
    return np.tensordot(windows, flip(b), b.ndim)


def _cut(y: Any, shape: Sequence[int]) -> Any:
    starts = [(n - m) // 2 for n, m in zip(y.shape, shape, strict=True)]
    return y[tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))]


def _convolved(function: str, a: Any, b: Any, mode: Any, axes: Any = None, by_spectra: bool | None = None) -> Any:
    a, b = _floating(a), _floating(b)
    if a.ndim != b.ndim:
        raise ValueError(f"{function}: in1 and in2 should have the same dimensionality")
    if a.ndim == 0:
        return a * b
    if axes is None:
        chosen: tuple[int, ...] = tuple(range(a.ndim))
    else:
        chosen = tuple(
            sorted(normalized_axis(i, a.ndim) for i in (axes if isinstance(axes, list | tuple) else (axes,)))
        )
    full = _full(a, b, chosen, by_spectra)
    if mode == "full":
        return full
    if mode == "same":
        return _cut(full, [a.shape[i] if i in chosen else full.shape[i] for i in range(a.ndim)])
    if mode == "valid":
        if all(a.shape[i] < b.shape[i] for i in chosen):
            a, b = b, a
        if any(a.shape[i] < b.shape[i] for i in chosen):
            raise ValueError("For 'valid' mode, one must be at least as large as the other in every dimension")
        return _cut(full, [a.shape[i] - b.shape[i] + 1 if i in chosen else full.shape[i] for i in range(a.ndim)])
    raise ValueError("Acceptable mode flags are 'valid', 'same', or 'full'.")


def _by_spectra(function: str, method: str) -> bool | None:
    if method not in ("auto", "direct", "fft"):
        raise ValueError("Acceptable method flags are 'auto', 'direct', or 'fft'.")
    return {"auto": None, "direct": False, "fft": True}[method]


@_TWINS.of("convolve")
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return _convolved("convolve", in1, in2, mode, None, _by_spectra("convolve", method))


@_TWINS.of("fftconvolve", "oaconvolve")
def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    return _convolved("fftconvolve", in1, in2, mode, axes, True)


@_TWINS.of("correlate")
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    turned = conjugated(flip(_floating(in2))) if array(in2).ndim else conjugated(array(in2))
    return _convolved("correlate", in1, turned, mode, None, _by_spectra("correlate", method))


@_TWINS.of("convolve2d")
def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    a, b = _floating(in1), _floating(in2)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError("convolve2d inputs must both be 2-D arrays")
    if boundary != "fill" or type(fillvalue) is Traced or fillvalue != 0:
        _TWINS.refuse("convolve2d", "boundary or fillvalue", (boundary, fillvalue))
    return _convolved("convolve2d", a, b, mode)


@_TWINS.of("correlate2d")
def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    turned = conjugated(flip(_floating(in2)))
    if mode == "same" and any(n % 2 == 0 for n in turned.shape):
        _TWINS.refuse("correlate2d", "mode", "'same' for an even number of rows or columns")
    return convolve2d(in1, turned, mode, boundary, fillvalue)


@_TWINS.of("detrend")
def detrend(data: Any, axis: int = -1, type: str = "linear", bp: Any = 0, overwrite_data: bool = False) -> Any:
    x = _floating(data)
    if type in ("constant", "c"):
        return x - np.mean(x, axis=axis, keepdims=True)
    if np.ndim(bp) or bp != 0:
        _TWINS.refuse("detrend", "bp", bp)
    moved = moveaxis(x, axis, 0)
    n = moved.shape[0]
    rows = np.stack([np.arange(1.0, n + 1) / n, np.ones(n)], 1)
    keep = np.eye(n) - rows @ np.linalg.pinv(rows)
    flat = moved.reshape((n, -1))
    return moveaxis((keep @ flat).reshape(moved.shape), 0, axis)


@_TWINS.of("lfilter")
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    if zi is not None:
        _TWINS.refuse("lfilter", "zi", "given")
    b, a, x = (_floating(v) for v in (b, a, x))
    b, a = (v.reshape((1,)) if v.ndim == 0 else v for v in (b, a))
    b, a = b / a[0], a / a[0]
    moved = moveaxis(x, axis, -1)
    n = moved.shape[-1]
    kernel = b.reshape((1,) * (moved.ndim - 1) + (-1,))
    y = _full(moved, kernel, tuple(range(moved.ndim)))[..., :n]
    below = a.shape[0] - 1
    if below:  # the feedback is a lower triangular band of a's: solve it
        rows = y.reshape((-1, n)).T
        band = a[:, None] * np.ones((1, n), rows.dtype)
        y = apply("linalg.solve_banded", band, rows.astype(band.dtype), below=below, above=0).T.reshape(moved.shape)
    return moveaxis(y, -1, axis)


# --- filters of images: weights plain or traced
_MODES = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "grid-wrap": "wrap",
    "constant": "constant",
    "grid-constant": "constant",
}


def _correlated(function: str, x: Any, weights: Any, axis: int, mode: Any, cval: Any, origin: Any) -> Any:
    """Correlate along one axis, with the border that the mode says."""
    if x.dtype.kind != "f":
        _IMAGES.refuse(function, "input", f"of dtype {x.dtype}")
    if mode not in _MODES:
        _IMAGES.refuse(function, "mode", mode)
    if origin != 0:
        _IMAGES.refuse(function, "origin", origin)
    n = weights.shape[0]
    axis = normalized_axis(axis, x.ndim)
    widths = [(n // 2, n - 1 - n // 2) if i == axis else (0, 0) for i in range(x.ndim)]
    more = {"constant_values": cval} if _MODES[mode] == "constant" else {}
    plain: Any = np.pad
    padded = (pad if type(x) is Traced else plain)(x, widths, _MODES[mode], **more)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n, axis=axis)
    return (windows @ weights).astype(x.dtype, copy=False)  # as SciPy's output has it


def _plain_output(function: str, output: Any) -> None:
    if output is not None:
        _IMAGES.refuse(function, "output", output)


@_IMAGES.of("correlate1d")
def correlate1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> Any:
    _plain_output("correlate1d", output)
    return _correlated("correlate1d", array(input), _floating(weights), axis, mode, cval, origin)


@_IMAGES.of("convolve1d")
def convolve1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> Any:
    _plain_output("convolve1d", output)
    weights = flip(_floating(weights))
    if weights.shape[0] % 2 == 0:
        _IMAGES.refuse("convolve1d", "weights", "an even number of them")
    return _correlated("convolve1d", array(input), weights, axis, mode, cval, origin)


@_IMAGES.of("uniform_filter1d")
def uniform_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: Any = 0.0, origin: int = 0
) -> Any:
    _plain_output("uniform_filter1d", output)
    weights = np.full(int(size), 1.0 / int(size))
    return _correlated("uniform_filter1d", array(input), weights, axis, mode, cval, origin)


@_IMAGES.of("gaussian_filter1d")
def gaussian_filter1d(
    input: Any,
    sigma: Any,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
) -> Any:
    _plain_output("gaussian_filter1d", output)
    if type(sigma) is Traced:
        _IMAGES.refuse("gaussian_filter1d", "sigma", "a traced value")
    sigma = float(sigma)
    reach = int(truncate * sigma + 0.5) if radius is None else int(radius)
    # SciPy's own weights, of any order: what the filter answers to a single one
    pulse = np.zeros(2 * reach + 1)
    pulse[reach] = 1.0
    plain = importlib.import_module("scipy.ndimage").gaussian_filter1d
    weights = plain(pulse, sigma, order=order, mode="constant", truncate=truncate, radius=reach)[::-1]
    return _correlated("gaussian_filter1d", array(input), weights, axis, mode, cval, 0)


@_IMAGES.of("gaussian_filter")
def gaussian_filter(
    input: Any,
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
) -> Any:
    x = array(input)
    chosen = range(x.ndim) if axes is None else [normalized_axis(i, x.ndim) for i in np.atleast_1d(axes)]

    def each(value: Any) -> list[Any]:
        return list(value) if isinstance(value, list | tuple | np.ndarray) else [value] * len(chosen)

    for i, s, o, m, r in zip(chosen, each(sigma), each(order), each(mode), each(radius), strict=True):
        if type(s) is Traced or s > 1e-15:
            x = gaussian_filter1d(x, s, i, o, output, m, cval, truncate, radius=r)
    return x


@_IMAGES.of("convolve", "correlate")
def filtered(input: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
    raise untraceable(
        "scipy.ndimage.convolve and correlate have no rule here",
        "use scipy.signal.convolve(…, mode='same') of the padded image, or pass method='central'",
    )
