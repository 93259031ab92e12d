"""Every public name says what it takes, gives and raises, in NumPy's sections, and its examples run."""

import doctest
import inspect
import re
import types

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt

import koubai as kb
from koubai import nn
from koubai.descent.hyperparameters import MEANINGS
from koubai.descent.rules import RULES

MODULES = (kb, kb.optimizers, kb.schedules, nn, kb.plot)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if callable(getattr(module, name))
}
PUBLIC["koubai.nn.Network.fit"] = nn.Network.fit
PAGES = {name: inspect.getdoc(thing) for name, thing in PUBLIC.items()}
UNDERLINED = re.compile(r"^([A-Z][a-z]+)\n(-+)$", re.MULTILINE)
SECTIONS = ("Parameters", "Attributes", "Yields", "Returns", "Raises", "Examples", "References")


def section(page, title):
    found = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n[A-Z][a-z]+\n-+\n|\Z)", page, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def named(page):
    """The names that the sections of parameters and attributes explain."""
    both = f"{section(page, 'Parameters')}\n{section(page, 'Attributes')}"
    heads = re.findall(r"^([\w*, ]+?)(?: : .*)?$", both, re.MULTILINE)
    return {name.strip("* ") for head in heads for name in head.split(",")}


def parameters(thing):
    """The names of the arguments; those of no name of their own, such as **unknown, are refused anyway."""
    signature = inspect.signature(thing.__init__ if thing is kb.optimizers.Optimizer else thing)
    return [n for n, p in signature.parameters.items() if n not in ("self", "unknown") and not n.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_explained(name):
    if PUBLIC[name] is kb.Status:
        return  # nobody makes one
    assert [n for n in parameters(PUBLIC[name]) if n not in named(PAGES[name])] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_nothing_is_explained_that_is_not_there(name):
    thing = PUBLIC[name]
    given = named(PAGES[name]) if "Parameters" in PAGES[name] else set()
    known = set(parameters(thing))
    attributes = {n.strip() for n in re.findall(r"[\w]+", section(PAGES[name], "Attributes"))}
    assert given - known - attributes - {""} == set()


@pytest.mark.parametrize("name", PUBLIC)
def test_the_sections_are_numpys_in_their_order(name):
    found = UNDERLINED.findall(PAGES[name])
    assert [title for title, _ in found if title not in SECTIONS] == []
    assert all(len(title) == len(line) for title, line in found)
    titles = [title for title, _ in found]
    assert titles == [title for title in SECTIONS if title in titles]


@pytest.mark.parametrize("name", [n for n, thing in PUBLIC.items() if isinstance(thing, types.FunctionType)])
def test_a_function_says_what_it_returns(name):
    assert section(PAGES[name], "Returns")
    assert section(PAGES[name], "Examples")


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_run(name):
    space = {"kb": kb, "np": np, "nn": nn}
    found = doctest.DocTestParser().get_doctest(PAGES[name], space, name, None, 0)
    failures = []
    doctest.DocTestRunner(verbose=False).run(found, out=failures.append)
    plt.close("all")
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", [cls.__name__ for cls in map(type, map(kb.optimizers.resolve, kb.optimizers.names()))])
def test_an_optimizer_names_the_options_that_all_share(name):
    """Made from one place, `koubai.descent.hyperparameters`, beside the rule's own formula."""
    page = inspect.getdoc(getattr(kb, name))
    rule = getattr(kb, name).rule
    assert inspect.cleandoc(rule.formula.__doc__) in page
    shared = ["weight_decay", "clipvalue", "clipnorm", "semantics"]
    if not rule.searches and "weight_decay" not in rule.defaults:
        shared += ["decoupled_weight_decay", "groups"]
    assert set(shared) <= named(page)
    assert kb.optimizers.resolve(name).__doc__ == getattr(kb, name).__doc__


def test_no_meaning_is_left_over():
    used = {name for rule in RULES.values() for name in rule.defaults}
    used |= {f"{rule.name}.{name}" for rule in RULES.values() for name in rule.defaults}
    assert set(MEANINGS) <= used
