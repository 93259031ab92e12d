"""What holds for every test: machine code is kept in a folder of the run's own, not the user's; Ctrl-C interrupts."""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_run() -> Iterator[None]:
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
