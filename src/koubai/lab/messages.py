"""Messages as they travel: a request is JSON, an answer a JSON header with arrays of numbers behind it.

    uint32, little-endian: the header's length · the header, padded with spaces · the arrays, one after another

The header says of each array its dtype, its shape, and where it begins, counted from the end of the header; all begin
at multiples of 8 bytes, so that a page can lay typed arrays over the bytes as they came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from koubai.descent.spec import json_number
from koubai.errors import InputError

__all__ = ["MOST_BYTES", "SupersededError", "TooLongError", "as_json", "packed", "plain", "read_request", "single"]

MOST_BYTES = 2**20  # of a request
DTYPES = {"float64", "float32", "int32", "uint32", "uint16", "uint8"}
ALIGNED = 8


class SupersededError(Exception):
    """A newer request of the same view has come: what is being computed for the older one is wanted no more."""


class TooLongError(Exception):
    """The computation takes longer than a request may."""


def plain(value: Any) -> Any:
    """Return a value in JSON's types; a number that is not finite becomes "NaN", "Infinity" or "-Infinity"."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def as_json(value: Any, **how: Any) -> str:
    """Return JSON text, in strict JSON whatever the numbers are."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, **how)


def single(values: Any) -> Any:
    """Return numbers as they are drawn: in float32, whose largest is far outside any picture."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(np.float32)


def packed(values: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> bytes:
    """Return one answer as bytes: the header's ``values``, and ``arrays`` by name."""
    described, parts, offset = {}, [], 0
    for name, given in (arrays or {}).items():
        array = np.ascontiguousarray(given)
        if array.dtype.name not in DTYPES:
            raise TypeError(f"an array of {array.dtype} can't be sent: {name}")
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        described[name] = {"dtype": array.dtype.name, "shape": list(np.shape(given)), "offset": offset}
        rest = -len(data) % ALIGNED
        parts += [data, bytes(rest)]
        offset += len(data) + rest
    header = as_json({**values, "arrays": described}, separators=(",", ":")).encode("utf-8", "replace")
    header += b" " * (-(len(header) + 4) % ALIGNED)
    return b"".join([len(header).to_bytes(4, "little"), header, *parts])


def _refuse_constant(text: str) -> Any:
    raise InputError(f'{text} is no JSON: write "{text}" in quotes')


def read_request(text: Any) -> dict[str, Any]:
    """Return the request in a text. Raises InputError for anything but a JSON object of a bounded size."""
    if not isinstance(text, str):
        raise InputError("a request must be text, not bytes")
    if len(text) > MOST_BYTES:
        raise InputError(f"the request has {len(text)} characters; at most {MOST_BYTES} are read")
    try:
        request = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise InputError(f"a request must be a JSON object, got {type(request).__name__}")
    return request
