"""Data sets: classes in the plane, handwritten digits, CSV files."""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.descent.files import open_regular
from koubai.errors import InputError, MissingPackageError, UnknownNameError
from koubai.messages import Worded, refused, worded
from koubai.parameters import FloatArray, check_whole

__all__ = [
    "TOYS",
    "Table",
    "blobs",
    "circles",
    "csv_columns",
    "digits",
    "moons",
    "parse_csv",
    "read_csv",
    "spirals",
    "xor",
]

Labels: TypeAlias = npt.NDArray[np.int64]


# -- classes in the plane ---------------------------------------------------------------------------------------------


def moons(n: int = 500, noise: float = 0.1, seed: int = 0) -> tuple[FloatArray, Labels]:
    """Moons: two interleaved half circles.

        class 0: (cos a, sin a),   class 1: (1 − cos a, 1/2 − sin a),   a uniform in [0, π]

    Parameters
    ----------
    n : int, default 500
        Points, half of them in each class.
    noise : float, default 0.1
        Standard deviation of what is added to both coordinates.
    seed : int, default 0
        Of all that is drawn; the same seed gives the same points.

    Returns
    -------
    X : array of float64, shape (n, 2)
        The points.
    y : array of int64, shape (n,)
        Their labels 0 and 1 in turn.

    Raises
    ------
    InputError
        For n < 2 or noise < 0.

    Examples
    --------
    >>> X, y = nn.moons(4)
    >>> X.shape, y
    ((4, 2), array([0, 1, 0, 1]))
    """
    rng, y = _begin(n, 2, noise, seed)
    a = rng.uniform(0, np.pi, n)
    upper = np.column_stack([np.cos(a), np.sin(a)])
    lower = np.column_stack([1 - np.cos(a), 0.5 - np.sin(a)])
    return _noisy(np.where(y[:, np.newaxis] == 0, upper, lower), noise, rng), y


def circles(n: int = 500, noise: float = 0.08, seed: int = 0) -> tuple[FloatArray, Labels]:
    """Circles: one inside the other.

        r (cos a, sin a),   r = 1 for class 0, 1/2 for class 1,   a uniform in [0, 2π]

    Parameters
    ----------
    n : int, default 500
        Points, half of them in each class.
    noise : float, default 0.08
        Standard deviation of what is added to both coordinates.
    seed : int, default 0
        Of all that is drawn; the same seed gives the same points.

    Returns
    -------
    X : array of float64, shape (n, 2)
        The points.
    y : array of int64, shape (n,)
        Their labels 0 and 1 in turn.

    Raises
    ------
    InputError
        For n < 2 or noise < 0.

    Examples
    --------
    >>> X, y = nn.circles(4, noise=0.0)
    >>> np.hypot(*X.T).round(9)
    array([1. , 0.5, 1. , 0.5])
    """
    rng, y = _begin(n, 2, noise, seed)
    a = rng.uniform(0, 2 * np.pi, n)
    r = np.where(y == 0, 1.0, 0.5)
    return _noisy(np.column_stack([r * np.cos(a), r * np.sin(a)]), noise, rng), y


def spirals(n: int = 500, noise: float = 0.03, seed: int = 0, *, classes: int = 3) -> tuple[FloatArray, Labels]:
    """Spirals: arms that wind around each other.

        r (cos a, sin a),   a = 4 r + 2π k / classes  in class k,   r uniform in [0, 1]

    Parameters
    ----------
    n : int, default 500
        Points, shared evenly by the classes.
    noise : float, default 0.03
        Standard deviation of what is added to both coordinates.
    seed : int, default 0
        Of all that is drawn; the same seed gives the same points.
    classes : int, default 3
        How many, at least 2.

    Returns
    -------
    X : array of float64, shape (n, 2)
        The points.
    y : array of int64, shape (n,)
        Their labels 0, 1, … in turn.

    Raises
    ------
    InputError
        For n < classes or noise < 0.

    Examples
    --------
    >>> X, y = nn.spirals(6)
    >>> y
    array([0, 1, 2, 0, 1, 2])
    """
    rng, y = _begin(n, classes, noise, seed)
    r = rng.uniform(0, 1, n)
    a = 4 * r + 2 * np.pi * y / classes
    return _noisy(np.column_stack([r * np.cos(a), r * np.sin(a)]), noise, rng), y


def blobs(n: int = 500, noise: float = 0.4, seed: int = 0, *, classes: int = 3) -> tuple[FloatArray, Labels]:
    """Blobs: normally distributed clouds with their centres on a circle.

        (cos a, sin a) + noise · N(0, 1),   a = π/2 + 2π k / classes  in class k

    Parameters
    ----------
    n : int, default 500
        Points, shared evenly by the classes.
    noise : float, default 0.4
        Standard deviation of a cloud.
    seed : int, default 0
        Of all that is drawn; the same seed gives the same points.
    classes : int, default 3
        How many, at least 2.

    Returns
    -------
    X : array of float64, shape (n, 2)
        The points.
    y : array of int64, shape (n,)
        Their labels 0, 1, … in turn.

    Raises
    ------
    InputError
        For n < classes or noise < 0.

    Examples
    --------
    >>> X, y = nn.blobs(3, noise=0.0)
    >>> X[0].round(9)
    array([0., 1.])
    """
    rng, y = _begin(n, classes, noise, seed)
    a = np.pi / 2 + 2 * np.pi * y / classes
    return _noisy(np.column_stack([np.cos(a), np.sin(a)]), noise, rng), y


def xor(n: int = 500, noise: float = 0.1, seed: int = 0) -> tuple[FloatArray, Labels]:
    """Xor: the quarters of a square, opposite ones in the same class. No straight line parts them.

        x uniform in [−1, 1]²,   class 1 if the signs of the coordinates differ

    Parameters
    ----------
    n : int, default 500
        Points.
    noise : float, default 0.1
        Standard deviation of what is added to both coordinates after the class is chosen.
    seed : int, default 0
        Of all that is drawn; the same seed gives the same points.

    Returns
    -------
    X : array of float64, shape (n, 2)
        The points.
    y : array of int64, shape (n,)
        Their labels 0 and 1 in turn.

    Raises
    ------
    InputError
        For n < 2 or noise < 0.

    Examples
    --------
    >>> X, y = nn.xor(4, noise=0.0)
    >>> y, (X[:, 0] * X[:, 1] < 0).astype(int)
    (array([0, 1, 0, 1]), array([0, 1, 0, 1]))
    """
    rng, y = _begin(n, 2, noise, seed)
    X = rng.uniform(-1, 1, (n, 2))
    X[:, 1] = np.copysign(X[:, 1], np.where(y == 0, X[:, 0], -X[:, 0]))
    return _noisy(X, noise, rng), y


TOYS = {f.__name__: f for f in (moons, circles, spirals, blobs, xor)}


def _begin(n: int, classes: int, noise: float, seed: int) -> tuple[np.random.Generator, Labels]:
    """Check the arguments; return the generator and the labels 0, 1, …, 0, 1, …"""
    for name, value, least in (("classes", classes, 2), ("n", n, max(2, int(classes))), ("seed", seed, 0)):
        check_whole(value, least, name)
    if isinstance(noise, bool) or not isinstance(noise, int | float | np.number) or not 0 <= noise < np.inf:
        raise InputError(f"noise must be a number ≥ 0, got {noise!r}")
    return np.random.default_rng(seed), np.arange(n, dtype=np.int64) % classes


def _noisy(X: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    return np.asarray(X + noise * rng.standard_normal(X.shape))


# -- handwritten digits -----------------------------------------------------------------------------------------------


def digits(*, images: bool = False) -> tuple[FloatArray, Labels]:
    """Digits: the 1,797 handwritten digits of 8 × 8 pixels that scikit-learn ships.

    Parameters
    ----------
    images : bool, default False
        Return images, as convolutions want them, instead of rows of pixels.

    Returns
    -------
    X : array of float32, shape (1797, 64), or (1797, 1, 8, 8) as images
        Brightness in [0, 1].
    y : array of int64, shape (1797,)
        Labels 0 … 9, in the order of the collection.

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.

    Examples
    --------
    >>> X, y = nn.digits(images=True)
    >>> X.shape, y[:5]
    ((1797, 1, 8, 8), array([0, 1, 2, 3, 4]))

    References
    ----------
    E. Alpaydin & C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingPackageError("the digits need", "scikit-learn") from None
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)  # brightness comes in steps of 1/16
    return X.reshape(-1, 1, 8, 8) if images else X, y.astype(np.int64)


# -- CSV files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers with one column as the label, as `read_csv` reads it; ``X, y = table`` unpacks it.

    Attributes
    ----------
    X : array of float64, shape (rows, features)
        The features.
    y : array, shape (rows,)
        Whole numbers (int64, none is rounded) if every label is one, float64 if they are other numbers; if they are
        text, the place of each in ``classes``.
    features, label : tuple of str, str, or None
        The columns' names, None if the file has none.
    classes : tuple of str or None
        The texts in alphabetical order, None if the labels are numbers.
    """

    X: FloatArray
    y: npt.NDArray[Any]
    features: tuple[str, ...] | None
    label: str | None
    classes: tuple[str, ...] | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.y))


def read_csv(
    path: str | os.PathLike[str], label: str | None = None, *, header: bool | None = None, delimiter: str = ","
) -> Table:
    r"""Read a CSV file: one sample a line, numbers in every column but the label's, which may hold text.

    Quoted cells, blank lines and a byte order mark are understood.

    Parameters
    ----------
    path : str or path
        The file.
    label : str, optional
        The name of the label's column; the last one if left out.
    header : bool, optional
        Whether the first line holds names; if left out, it does if none of its cells is a number.
    delimiter : str, default ","
        What is between two cells.

    Returns
    -------
    Table
        Unpacks as ``X, y``.

    Raises
    ------
    InputError
        For a cell that isn't a finite number, naming line and column; for a whole label beyond 64 bits; for lines of
        unequal length; for an unknown label, with the nearest name; if there is no sample or no feature; and if the
        path isn't that of a file that can be read.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.csv")
    ...     with open(path, "w") as file:
    ...         _ = file.write("width,height,species\n1,2,setosa\n3,4,virginica\n")
    ...     X, y = table = nn.read_csv(path)
    >>> y, table.classes, table.features
    (array([0, 1]), ('setosa', 'virginica'), ('width', 'height'))
    """
    try:
        csv.reader([], delimiter=delimiter)
    except (TypeError, ValueError):
        raise InputError(f"delimiter must be one character, as in ';', got {delimiter!r}") from None
    try:
        with open_regular(path) as opened, io.TextIOWrapper(opened, "utf-8-sig", newline="") as file:
            return _table_of(file, repr(str(path)), label, header, delimiter)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} is not a CSV file in UTF-8: {error}") from None


def parse_csv(
    text: str,
    label: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    name: str = "the table",
) -> Table:
    """Return the table of a CSV file's text, as `read_csv` reads the file.

    columns: the names of the features, all but the label if left out; others are not read. Without a line of names
    columns are named by their numbers, "1" the first. name: what the table is called in an error.
    """
    try:
        return _table_of(_lines(text), name, label, header, delimiter, columns, numbered=True)
    except csv.Error as error:
        raise refused("{name} is not CSV: {error}", name=name, error=str(error)) from None


def csv_columns(text: str, *, header: bool | None = None, delimiter: str = ",") -> tuple[str, ...]:
    """Return the names of the columns in a CSV file's text, or their numbers if it begins without names."""
    try:
        first = next((row for row in csv.reader(_lines(text), delimiter=delimiter) if row), [])
    except csv.Error:
        return ()
    cells = [cell.strip() for cell in first]
    return _names(cells, header) or _numbers(cells)


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text.removeprefix("\ufeff"), newline="")


def _names(first: list[str], header: bool | None) -> tuple[str, ...] | None:
    """Return the names in the first line, or None if it holds numbers already."""
    return tuple(first) if (not any(map(_is_number, first)) if header is None else header) else None


def _numbers(first: list[str]) -> tuple[str, ...]:
    return tuple(str(i + 1) for i in range(len(first)))


def _table_of(
    file: Iterable[str], shown: str, label: str | None, header: bool | None, delimiter: str,
    columns: Sequence[str] | None = None, *, numbered: bool = False,
) -> Table:  # fmt: skip
    reader = csv.reader(file, delimiter=delimiter)
    # the number of each line in its file, and its cells
    rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader if row)
    begin = next(rows, None)
    if begin is None:
        raise refused("{name} is empty", name=shown)
    _, first = begin
    width = len(first)
    if width < 2:
        raise refused("{name} has one column; it needs a feature and a label (is another delimiter meant?)", name=shown)
    names = _names(first, header)
    if names is None and label is not None and not numbered:
        raise InputError(f"{shown} begins without a line of names: leave label out, it is the last column")
    known = names or _numbers(first)

    def place_of(column: str) -> int:
        if known.count(column) > 1:
            count = known.count(column)
            raise refused("{name} has {count} columns called {column!r}", name=shown, count=count, column=column)
        if column not in known:
            raise UnknownNameError(f"column of {shown}", column, known)
        return known.index(column)

    place = width - 1 if label is None else place_of(label)
    places = [i for i in range(width) if i != place] if columns is None else [*map(place_of, columns)]

    def where(line: int, column: int) -> Worded:
        if names is None:
            return worded("{name}, line {line}, column {column}", name=shown, line=line, column=column + 1)
        return worded(
            "{name}, line {line}, column {column} ({head})",
            name=shown, line=line, column=column + 1, head=names[column],
        )  # fmt: skip

    numbers, texts, lines = array("d"), [], []
    for line, cells in rows if names is not None else chain([begin], rows):
        if len(cells) != width:
            raise refused(
                "{name}, line {line} has {count} cells, the first line has {width}",
                name=shown,
                line=line,
                count=len(cells),
                width=width,
            )
        texts.append(cells[place])
        lines.append(line)
        try:
            numbers.extend([float(cells[i]) for i in places])
        except ValueError:
            wrong = next(i for i in places if not _is_number(cells[i]))
            at = where(line, wrong)
            if not cells[wrong]:
                raise refused("{where} is empty", where=at) from None
            raise refused("{where} is {cell!r}, not a number", where=at, cell=cells[wrong]) from None
    if not lines:
        raise refused("{name} has a line of names and no samples", name=shown)
    X = np.array(numbers).reshape(len(lines), len(places))
    if not np.isfinite(X).all():
        row, wrong = np.argwhere(~np.isfinite(X))[0]
        at = where(lines[row], places[wrong])
        raise refused("{where} is {number}; drop the line or fill it in", where=at, number=X[row, wrong])
    numeric = _is_number(texts[0])
    for line, text in zip(lines, texts, strict=True):
        if problem := _problem(where(line, place), text, numeric):
            raise InputError(problem)
    features = None if names is None else tuple(names[i] for i in places)
    named = None if names is None else names[place]
    if not numeric:
        classes, y = np.unique(texts, return_inverse=True)
        return Table(X, y.astype(np.int64), features, named, tuple(map(str, classes)))
    if not all(text.lstrip("+-").isdecimal() for text in texts):
        return Table(X, np.array(texts, dtype=np.float64), features, named, None)
    whole = [int(text) for text in texts]
    for line, number in zip(lines, whole, strict=True):
        if not -(2**63) <= number < 2**63:
            raise refused(
                "{where} is {number}, beyond whole numbers of 64 bits; put a letter before such labels, to have "
                "them read as text",
                where=where(line, place),
                number=number,
            )
    return Table(X, np.array(whole, dtype=np.int64), features, named, None)


def _problem(where: Worded, label: str, numeric: bool) -> Worded | None:
    """Return what is wrong with a label, given whether the first one is ``numeric``."""
    if not label:
        return worded("{where} is empty", where=where)
    if _is_number(label) != numeric:
        first = worded("a number") if numeric else worded("text")
        return worded(
            "{where} is {label!r}, but the first label is {first}: write all of them as numbers or all as text",
            where=where, label=label, first=first,
        )  # fmt: skip
    if numeric and not np.isfinite(float(label)):
        return worded("{where} is {label!r}, not a finite number", where=where, label=label)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
