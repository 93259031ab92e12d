"""Exponentials, logarithms and trigonometry as LLVM IR. Being written: until then, graphs with them run in NumPy."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["FUNCTIONS", "definitions", "symbol"]

FUNCTIONS: dict[str, int] = {}


def symbol(name: str, dtype: str, width: int) -> str:
    return f"kb.{name}.{dtype}x{width}"


def definitions(needed: Iterable[tuple[str, str, int]], *, fma: bool) -> str:
    return ""
