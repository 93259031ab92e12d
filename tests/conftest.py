"""What holds for every test: what `make test` leaves out, where machine code is kept, that Ctrl-C interrupts."""

import collections
import gc
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

# The suite runs in two processes, and a BLAS with two threads in each waits for cores more than it computes: a training
# of a minute takes five seconds with one. Read when NumPy is loaded, and by the processes that tests start.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

os.environ["LC_ALL"] = "C.UTF-8"  # texts are compared, and koubai speaks the language of the locale


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are dropped
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked ``sampled(n)`` is slow but for every n-th of its cases."""
    seen: collections.Counter[str] = collections.Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            name = item.nodeid.partition("[")[0]
            if seen[name] % sampled.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[name] += 1


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through the tests and all that they import: these stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_run() -> Iterator[None]:
    """Machine code is kept in a folder of the run's own, not the user's."""
    before = os.environ.get("KOUBAI_CACHE")
    with tempfile.TemporaryDirectory(prefix="koubai-test-") as folder:
        os.environ["KOUBAI_CACHE"] = folder
        yield
        if before is None:
            del os.environ["KOUBAI_CACHE"]
        else:
            os.environ["KOUBAI_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """A shell that starts the tests in the background has them, and thereby Python, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
