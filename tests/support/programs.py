"""A program: source text that defines f and what changes its surroundings, run anew whenever a fresh one is wanted."""

from __future__ import annotations

import itertools
import linecache
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

PREAMBLE = "import functools\nimport math\n\nimport numpy as np\n"
_numbers = itertools.count()


@dataclass(frozen=True)
class Program:
    """One function with its surroundings.

    text: defines ``f``, and where there is something to change ``change()``; ``probe()`` returns numbers that a call
    of f advances; ``extra`` holds further arguments of f; ``close()`` is called at the end. ``TAG`` in it is replaced
    by a word of each instance's own: names of modules, files and variables of the environment are made with it, so
    that two instances share nothing. ``FOLDER`` is a folder for the instance.
    layout: "module" (as imported), "loose" (a namespace that is no module), "anonymous" (one without ``__name__``).
    expect: "right"; "differences" (no trace can follow f, but differences can, aloud); "aloud" (no derivative is to be
    had, and koubai has to say so); "constant" (f ignores its argument, which has to be said as well); "flat" (the
    derivative is 0 almost everywhere: a descent is no success).
    points: three arguments of f. tolerance: of the derivative, where f itself is not exact to rounding. steady: see
    `writing.Idiom`.
    """

    name: str
    text: str
    points: tuple[Any, ...]
    expect: str = "right"
    layout: str = "module"
    tolerance: float = 1e-6
    steady: bool = True

    @contextmanager
    def instance(self) -> Iterator[Instance]:
        """Run the text; clear away afterwards what it left in the process."""
        tag = f"corpus{next(_numbers)}x"
        text = PREAMBLE + self.text.replace("TAG", tag)
        filename = f"<{self.name} {tag}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        module = types.ModuleType(tag)
        namespace = {} if self.layout == "anonymous" else vars(module)
        if self.layout == "module":
            sys.modules[tag] = module
        with tempfile.TemporaryDirectory() if "FOLDER" in text else nullcontext() as folder:
            namespace["FOLDER"] = folder
            try:
                exec(compile(text, filename, "exec"), namespace)
                yield Instance(
                    namespace["f"],
                    namespace.get("change"),
                    namespace.get("probe"),
                    namespace.get("extra", ()),
                    namespace,
                )
            finally:
                namespace.get("close", lambda: None)()
                del linecache.cache[filename]
                sys.modules.pop(tag, None)
                if tag in text:  # it may have named what it left
                    for name in [name for name in sys.modules if name.startswith(tag)]:
                        del sys.modules[name]
                    for name in [name for name in os.environ if name.lower().startswith(tag)]:
                        del os.environ[name]


@dataclass
class Instance:
    """One run of a program's text."""

    f: Callable[..., Any]
    change: Callable[[], Any] | None
    probe: Callable[[], Any] | None
    extra: tuple[Any, ...]
    namespace: dict[str, Any]

    def __call__(self, x: Any) -> Any:
        """Return f(x)."""
        return self.f(x, *self.extra)

    @property
    def loss(self) -> Callable[..., Any]:
        """f as a function of x alone."""
        return self.f if not self.extra else lambda x: self.f(x, *self.extra)
