"""The primitives of convolution and pooling: windows taken from images, and added back to where they were taken from.

Images have the axes (channel, height, width, sample). With the samples last, a row of a window is one run of memory,
and all windows together, as (channel · kernel, place · sample), are the matrix that a convolution multiplies by its
weights. Each of the two rows `windows` and `windows_add` is the other's derivative.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from koubai.graph.ops import Interval, Op, Scratch, Shape, add_row, apply

__all__ = ["window_count"]

Pair: TypeAlias = tuple[int, int]
_ANY: Interval = (-3.0, 3.0)
_SCRATCH = 2**18  # bytes that a primitive works in at once: they stay in the cache


_memory = Scratch()


def window_count(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many windows fit along an axis."""
    return (size + 2 * padding - kernel) // stride + 1


def _overlap(first: int, stop: int, count: int, offset: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Return the windows whose element ``offset`` is at one of first … stop−1, and these places, from ``first``."""
    low = max(0, -((offset - padding - first) // stride))
    high = max(low, min(count, (stop - 1 + padding - offset) // stride + 1))
    start = low * stride + offset - padding - first
    return slice(low, high), slice(start, max(start, start + (high - low - 1) * stride + 1), stride)


@functools.lru_cache(maxsize=256)
def _places(
    rows: Pair, width: int, counts: Pair, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[tuple[Any, Any, tuple[Any, ...]], ...]:
    """For every element of the kernel: where it is in the windows, where in the image, and where it is outside.

    rows: the part of the image that is at hand; outside are windows' elements above, below, left and right of it all.
    """
    everything, found = slice(None), []
    for i, j in np.ndindex(*kernel):
        windows_y, image_y = _overlap(*rows, counts[0], i, stride[0], padding[0])
        windows_x, image_x = _overlap(0, width, counts[1], j, stride[1], padding[1])
        outside: list[tuple[slice, ...]] = [(slice(0, windows_y.start),), (slice(windows_y.stop, None),)]
        outside += [(everything, slice(0, windows_x.start)), (everything, slice(windows_x.stop, None))]
        borders = tuple(
            (everything, i, j, *border)
            for border, n in zip(outside, (counts[0], counts[0], counts[1], counts[1]), strict=True)
            if range(n)[border[-1]]
        )
        found.append(((everything, i, j, windows_y, windows_x), (everything, image_y, image_x), borders))
    return tuple(found)


def _windows_shape(x: Shape, *, kernel: Pair, stride: Pair, padding: Pair) -> Shape:
    channels, height, width, samples = x
    counts = [window_count(*along) for along in zip((height, width), kernel, stride, padding, strict=True)]
    return (channels, *kernel, *counts, samples)


def _windows_into(result: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Pair) -> None:
    channels, height, width, samples = x.shape
    counts = result.shape[3:5]
    for _, _, borders in _places((0, height), width, counts, kernel, stride, padding):
        for border in borders:
            result[border] = 0.0
    rows = height
    if not x.flags.c_contiguous:  # to gather from it again and again is slow: copy a few rows at a time
        rows = min(height, max(1, _SCRATCH // (channels * width * samples * x.itemsize)))
    for first in range(0, height, rows):
        stop = min(height, first + rows)
        part = x[:, first:stop]
        if not part.flags.c_contiguous:
            contiguous = _memory.take(*part.shape, dtype=x.dtype)
            contiguous[...] = part
            part = contiguous
        for place, source, _ in _places((first, stop), width, counts, kernel, stride, padding):
            result[place] = part[source]


def _windows(x: Any, *, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    result = np.empty(_windows_shape(x.shape, kernel=kernel, stride=stride, padding=padding), x.dtype)
    _windows_into(result, x, kernel=kernel, stride=stride, padding=padding)
    return result


def _windows_add_into(result: Any, w: Any, *, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> None:
    result.fill(0)
    for place, target, _ in _places((0, shape[1]), shape[2], w.shape[3:5], kernel, stride, padding):
        part = result[target]
        np.add(part, w[place], part)


def _windows_add(w: Any, *, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    result = np.empty(shape, w.dtype)
    _windows_add_into(result, w, shape=shape, kernel=kernel, stride=stride, padding=padding)
    return result


def _taken_text(x: str, kernel: Pair, stride: Pair) -> str:
    """All windows of x, with the axes of the kernel last."""
    return f"np.lib.stride_tricks.sliding_window_view({x}, {kernel}, (1, 2))[:, ::{stride[0]}, ::{stride[1]}]"


def _windows_code(y: str, args: Any, params: dict[str, Any]) -> str:
    ph, pw = params["padding"]
    padded = f"np.pad({args[0]}, ((0, 0), ({ph}, {ph}), ({pw}, {pw}), (0, 0)))" if ph or pw else args[0]
    return f"{y} = {_taken_text(padded, params['kernel'], params['stride'])}.transpose(0, 4, 5, 1, 2, 3)"


def _windows_add_code(y: str, args: Any, params: dict[str, Any]) -> str:
    (channels, height, width, samples), (kh, kw) = params["shape"], params["kernel"]
    (sh, sw), (ph, pw) = params["stride"], params["padding"]
    place = f"{y}[:, i:i + {args[0]}.shape[3] * {sh}:{sh}, j:j + {args[0]}.shape[4] * {sw}:{sw}]"
    return (
        f"{y} = np.zeros(({channels}, {height + 2 * ph + sh}, {width + 2 * pw + sw}, {samples}), {args[0]}.dtype); "
        f"[np.add({place}, {args[0]}[:, i, j], out={place}) for i, j in np.ndindex({kh}, {kw})]; "
        f"{y} = {y}[:, {ph}:{ph + height}, {pw}:{pw + width}]"
    )


_EXAMPLES: tuple[tuple[Shape, dict[str, Any]], ...] = (
    ((1, 3, 3, 1), {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 0)}),
    ((2, 4, 3, 2), {"kernel": (3, 2), "stride": (1, 2), "padding": (1, 1)}),
    ((1, 5, 4, 3), {"kernel": (1, 3), "stride": (2, 1), "padding": (0, 2)}),
    ((1, 6, 5, 1), {"kernel": (2, 2), "stride": (3, 4), "padding": (0, 1)}),
)
add_row(
    Op(
        "windows",
        _windows,
        (lambda g, y, x, **params: apply("windows_add", g, shape=x.shape, **params),),
        shape=_windows_shape,
        into=_windows_into,
        code=_windows_code,
        domain=(_ANY,),
        examples=tuple(((shape,), params) for shape, params in _EXAMPLES),
    )
)
add_row(
    Op(
        "windows_add",
        _windows_add,
        (lambda g, y, w, *, shape, **params: apply("windows", g, **params),),
        shape=lambda w, *, shape, **params: shape,
        into=_windows_add_into,
        code=_windows_add_code,
        domain=(_ANY,),
        examples=tuple(((_windows_shape(shape, **params),), {"shape": shape, **params}) for shape, params in _EXAMPLES),
    )
)


# --- the largest of each window. Ties share the derivative evenly, as `max` does; PyTorch gives it to the first
def _pool_shape(x: Shape, *, kernel: Pair, stride: Pair) -> Shape:
    channels, _, _, height, width, samples = _windows_shape(x, kernel=kernel, stride=stride, padding=(0, 0))
    return channels, height, width, samples


def _sources(shape: Shape, result: Shape, kernel: Pair, stride: Pair) -> list[Any]:
    """Return where the windows' first, second, … elements are in the image."""
    counts = (result[1], result[2])
    return [source for _, source, _ in _places((0, shape[1]), shape[2], counts, kernel, stride, (0, 0))]


def _window_max_into(result: Any, x: Any, *, kernel: Pair, stride: Pair) -> None:
    sources = _sources(x.shape, result.shape, kernel, stride)
    np.maximum(x[sources[0]], x[sources[-1]], out=result)
    for source in sources[1:-1]:
        np.maximum(result, x[source], out=result)


def _window_max(x: Any, *, kernel: Pair, stride: Pair) -> Any:
    result = np.empty(_pool_shape(x.shape, kernel=kernel, stride=stride), x.dtype)
    _window_max_into(result, x, kernel=kernel, stride=stride)
    return result


def _hits(x: Any, kernel: Pair, stride: Pair) -> Iterator[tuple[Any, Any, list[Any], Any, Any]]:
    """Yield, part by part: which windows, which part of the image, where the windows' elements are in it, 1 if such
    an element is the largest of its window and else 0, and in how many places the largest is.
    """
    channels, height, width, samples = _pool_shape(x.shape, kernel=kernel, stride=stride)
    line = (math.prod(kernel) + 2) * width * samples * x.itemsize  # bytes for one row of windows
    rows = max(1, min(height, _SCRATCH // line))
    step = max(1, _SCRATCH // (line * height))
    for channel, top_row in itertools.product(range(0, channels, step), range(0, height, rows)):
        stop_row = min(height, top_row + rows)
        windows = slice(channel, channel + step), slice(top_row, stop_row)
        image = windows[0], slice(top_row * stride[0], (stop_row - 1) * stride[0] + kernel[0])
        part = x[image]
        shape = part.shape[0], stop_row - top_row, width, samples
        sources = _sources(part.shape, shape, kernel, stride)
        hit = _memory.take(len(sources) + 2, *shape, dtype=x.dtype)
        top, ties = hit[-2:]
        _window_max_into(top, part, kernel=kernel, stride=stride)
        for k, source in enumerate(sources):
            np.equal(part[source], top, hit[k])
        yield windows, image, sources, hit[:-2], np.add.reduce(hit[:-2], 0, None, ties)


def _window_spread_into(result: Any, g: Any, x: Any, *, kernel: Pair, stride: Pair) -> None:
    result.fill(0)
    for windows, image, sources, hit, ties in _hits(x, kernel, stride):
        share = np.divide(g[windows], ties, ties)
        for k, source in enumerate(sources):
            target = result[image][source]
            np.add(target, np.multiply(share, hit[k], hit[k]), target)


def _window_spread(g: Any, x: Any, *, kernel: Pair, stride: Pair) -> Any:
    result = np.empty(x.shape, x.dtype)
    _window_spread_into(result, g, x, kernel=kernel, stride=stride)
    return result


def _window_gather_into(result: Any, h: Any, x: Any, *, kernel: Pair, stride: Pair) -> None:
    for windows, image, sources, hit, ties in _hits(x, kernel, stride):
        for k, source in enumerate(sources):
            np.multiply(h[image][source], hit[k], hit[k])
        np.divide(np.add.reduce(hit, 0), ties, result[windows])


def _window_gather(h: Any, x: Any, *, kernel: Pair, stride: Pair) -> Any:
    result = np.empty(_pool_shape(x.shape, kernel=kernel, stride=stride), x.dtype)
    _window_gather_into(result, h, x, kernel=kernel, stride=stride)
    return result


def _tie(x: Any, *, kernel: Pair, stride: Pair) -> Any:
    return any(np.any(ties > 1) for *_, ties in _hits(x, kernel, stride))


def _share_text(x: str, params: dict[str, Any]) -> str:
    """The weight of every window's elements in its largest one."""
    windows = _taken_text(x, **params)
    hit = f"({windows} == {windows}.max((-2, -1), keepdims=True))"
    return f"{hit} / {hit}.sum((-2, -1), keepdims=True)"


def _window_max_code(y: str, args: Any, params: dict[str, Any]) -> str:
    return f"{y} = {_taken_text(args[0], **params)}.max((-2, -1))"


def _window_gather_code(y: str, args: Any, params: dict[str, Any]) -> str:
    return f"{y} = ({_taken_text(args[0], **params)} * ({_share_text(args[1], params)})).sum((-2, -1))"


def _window_spread_code(y: str, args: Any, params: dict[str, Any]) -> str:
    (g, x), (kh, kw), (sh, sw) = args, params["kernel"], params["stride"]
    place = f"{y}[:, i:i + {g}.shape[1] * {sh}:{sh}, j:j + {g}.shape[2] * {sw}:{sw}][:, :{g}.shape[1], :{g}.shape[2]]"
    return (
        f"{y} = np.zeros(np.add({x}.shape, (0, {sh}, {sw}, 0)), {x}.dtype); share_{y} = {_share_text(x, params)}; "
        f"[np.add({place}, {g} * share_{y}[..., i, j], out={place}) for i, j in np.ndindex({kh}, {kw})]; "
        f"{y} = {y}[:, :{x}.shape[1], :{x}.shape[2]]"
    )


_POOLS: tuple[tuple[Shape, dict[str, Any]], ...] = (
    ((2, 4, 5, 2), {"kernel": (2, 2), "stride": (2, 2)}),
    ((1, 4, 3, 3), {"kernel": (3, 2), "stride": (1, 1)}),
    ((1, 6, 5, 1), {"kernel": (1, 2), "stride": (2, 3)}),
    ((2, 2, 2, 1), {"kernel": (1, 1), "stride": (1, 1)}),
)
add_row(
    Op(
        "window_max",
        _window_max,
        (lambda g, y, x, **params: apply("window_spread", g, x, **params),),
        shape=_pool_shape,
        into=_window_max_into,
        code=_window_max_code,
        kink=lambda y, x, **params: _tie(x, **params),
        domain=(_ANY,),
        examples=tuple(((shape,), params) for shape, params in _POOLS),
    )
)
add_row(
    Op(
        "window_spread",  # g to the largest element of each window of x
        _window_spread,
        (lambda h, y, g, x, **params: apply("window_gather", h, x, **params), None),
        shape=lambda g, x, **params: x,
        into=_window_spread_into,
        code=_window_spread_code,
        kink=lambda y, g, x, **params: _tie(x, **params),
        domain=(_ANY, _ANY),
        examples=tuple(((_pool_shape(shape, **params), shape), params) for shape, params in _POOLS),
    )
)
add_row(
    Op(
        "window_gather",  # h where the largest element of each window of x is
        _window_gather,
        (lambda g, y, h, x, **params: apply("window_spread", g, x, **params), None),
        shape=lambda h, x, **params: _pool_shape(x, **params),
        into=_window_gather_into,
        code=_window_gather_code,
        kink=lambda y, h, x, **params: _tie(x, **params),
        domain=(_ANY, _ANY),
        examples=tuple(((shape, shape), params) for shape, params in _POOLS),
    )
)
