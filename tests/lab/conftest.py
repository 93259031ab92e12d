"""A lab on 127.0.0.1, and pages of it in headless Chromium that must stay silent and go nowhere else."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import Page, chromium, start_lab, stop_lab

sync_api = pytest.importorskip("playwright.sync_api", reason="the lab's pages are tested with Playwright")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address of a running lab."""
    process, address = start_lab(tmp_path_factory.mktemp("state"))
    yield address
    stop_lab(process)


@pytest.fixture(scope="session")
def browser():
    with sync_api.sync_playwright() as playwright:
        if chromium(playwright) is None:
            absent = "there is no Chromium here: `make test-lab` installs it, or: playwright install chromium"
            if os.environ.get("CI"):
                pytest.fail(absent)
            pytest.skip(absent)
        browser = playwright.chromium.launch(args=["--no-sandbox"], executable_path=chromium(playwright))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contexts(lab, browser):
    """Return a function that gives the browser's context of these options, in which the lab lets in: with one context
    for all tests of the same options, the modules of the page are compiled once. State is in addresses alone.
    """
    made = {}

    def context(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in made:
            usual = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
            made[key] = browser.new_context(**(usual | options))
            made[key].request.get(lab)
        return made[key]

    return context


@pytest.fixture
def open_lab(lab, contexts):
    """A function that opens a page: open_lab(state, **options of the browser's context).

    With token=True by the address that `koubai lab` prints, as is needed at another lab than that of the session.
    """
    pages = []

    def opened(state=None, query="", address=lab, token=False, **options):
        page = Page(contexts(**options).new_page(), address)
        pages.append(page)
        return page.open(state, query, token=token)

    yield opened
    for page in pages:
        page.page.close()
    for page in pages:
        assert page.errors == [], page.errors
        outside = [u for u in page.requests if not u.startswith((page.base, "data:", "blob:", "about:"))]
        assert outside == [], outside


@pytest.fixture(scope="session")
def axe():
    """The text of axe-core, which the package of its Playwright bindings carries."""
    found = find_spec("axe_playwright_python")
    if found is None:
        absent = "axe-playwright-python is not installed: `make test-lab` installs it"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)
    return (Path(found.origin).parent / "axe.min.js").read_text("utf-8")
