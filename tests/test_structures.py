"""Lists, tuples and NamedTuples of arrays, nested in each other and in dicts, wherever parameters are taken."""

from typing import NamedTuple

import numpy as np
import pytest

import koubai as kb
from koubai.errors import InputError
from koubai.parameters import flatten, form_of_text, form_text


class Layer(NamedTuple):
    W: np.ndarray
    b: np.ndarray


random = np.random.default_rng(0)
W1, b1, W2, b2 = (random.normal(size=shape) for shape in ((2, 3), (3,), (3, 1), (1,)))
DATA, WANTED = random.normal(size=(5, 2)), random.normal(size=(5, 1))


def network(layers):
    h = DATA
    for i, (W, b) in enumerate(layers):
        h = h @ W + b
        if i < len(layers) - 1:
            h = np.tanh(h)
    return np.mean((h - WANTED) ** 2)


def of_dict(p):
    return network(p["layers"]) + np.sum(p["more"][1] ** 2) + p["more"][0] ** 4


FORMS = {
    "list of tuples": (network, [(W1, b1), (W2, b2)]),
    "tuple of lists": (network, ([W1, b1], [W2, b2])),
    "named tuples": (network, [Layer(W1, b1), Layer(W2, b2)]),
    "dict": (of_dict, {"layers": [(W1, b1), Layer(W2, b2)], "more": (1.5, np.array([2.0, 3.0]))}),
    "equal arrays": (lambda p: np.sum(p[0] ** 2 * np.cos(p[1])), [b1, b1 + 1.0]),
    "named numbers": (lambda p: p.W**2 * p.b + p.b**3, Layer(1.5, 2.0)),
}


def leaves(value):
    layout, vector = flatten(value)
    return layout, vector


def same_form(a, b):
    assert type(a) is type(b) or not isinstance(a, list | tuple | dict)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same_form(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same_form(one, other)
    else:
        assert np.shape(a) == np.shape(b)


def shaped_as_arrays(value):
    """The same structure, with arrays where numbers and lists of numbers were."""
    layout, vector = flatten(value)
    return layout.view(vector)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_have_the_form_of_x(form):
    f, x = FORMS[form]
    G = kb.grad(f, method="backprop")
    estimate = kb.numerical_gradient(f, x)
    for _ in range(3):  # traced, by the program, by the short way
        g = G(x)
        same_form(g, shaped_as_arrays(x))
        assert np.all(np.abs(leaves(g)[1] - leaves(estimate.value)[1]) <= leaves(estimate.error)[1] + 1e-10)
    assert kb.value_and_grad(f)(x)[0] == pytest.approx(f(x))


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_have_the_form_of_x_twice(form):
    f, x = FORMS[form]
    layout, vector = leaves(x)
    H = kb.hessian(f, method="backprop")(x)
    v = layout.view(np.cos(np.arange(vector.size)))
    product = kb.hvp(f)(x, v)
    same_form(product, shaped_as_arrays(x))
    same_form(kb.jacobian(f)(x), shaped_as_arrays(x))
    matrix = np.concatenate(
        [
            np.concatenate([np.reshape(block, (size, -1)) for block in layout.parts(row)], axis=1)
            for row, size in zip(layout.parts(H), map(np.size, layout.parts(shaped_as_arrays(x))), strict=True)
        ]
    )
    np.testing.assert_allclose(matrix @ leaves(v)[1], leaves(product)[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_check_names_the_component(form):
    f, x = FORMS[form]
    layout, _ = leaves(x)
    g = layout.copy(leaves(kb.grad(f)(x))[1])
    assert kb.check_gradient(f, g, x).ok
    wrong = layout.match(g, "g").copy()
    wrong[0] += 1.0
    check = kb.check_gradient(f, layout.view(wrong), x)
    assert [one.label for one in check.wrong] == [layout.label(0)]


def test_labels_read_as_code():
    assert leaves(FORMS["list of tuples"][1])[0].label(4) == "x[0][0][1, 1]"
    assert leaves(FORMS["named tuples"][1])[0].label(7) == "x[0].b[1]"
    assert leaves(FORMS["dict"][1])[0].label(0) == "layers[0][0][0, 0]"
    assert leaves(FORMS["named numbers"][1])[0].label(1) == "x.b"


@pytest.mark.parametrize("form", FORMS)
def test_a_descent_keeps_the_form(form, tmp_path):
    f, x = FORMS[form]
    before = leaves(x)[1].copy()
    run = kb.minimize(f, x, kb.Adam(lr=0.01), max_steps=20, record="all", checkpoint=tmp_path / "c.npz")
    same_form(run.x, shaped_as_arrays(x))
    assert run.fun < f(x)
    np.testing.assert_array_equal(leaves(x)[1], before)
    rows = leaves(run.x)[0].parts(run.history.x)
    assert all(len(part) == len(run.history.t) for part in rows)
    run.save(tmp_path / "run.npz")
    loaded = kb.load(tmp_path / "run.npz", f)
    np.testing.assert_array_equal(leaves(loaded.x)[1], leaves(run.x)[1])
    assert f(loaded.best_x) == run.best_fun
    assert list(run.to_dataframe().columns)[-1] == leaves(x)[0].label(before.size - 1)
    for step in kb.iterate(f, x, kb.SGD(lr=1e-3), max_steps=2):
        same_form(step.g, shaped_as_arrays(x))
    by_differences = kb.minimize(f, x, kb.SGD(lr=1e-3), grad="central", max_steps=2)
    same_form(by_differences.jac, shaped_as_arrays(x))


def test_a_form_survives_json():
    for _, x in FORMS.values():
        layout, vector = leaves(x)
        again = form_of_text(form_text(layout.form))
        assert form_text(again) == form_text(layout.form)
        assert leaves(type(layout)(**(vars(layout) | {"form": again})).view(vector))[0].shapes == layout.shapes
    for wrong in ([["set"], []], [["list"], [[1, None], [0, None]]], [["class", "def"], [[0, None]]]):
        with pytest.raises(ValueError, match=r"structure|order|identifier|keyword"):
            form_of_text(wrong)


@pytest.mark.parametrize("steps", [3, 200])
def test_an_optimizer_updates_in_place(steps):
    pairs = [(W1.copy(), b1.copy()), [W2.copy(), b2.copy()]]
    held = pairs[0][0]
    optimizer, dicts = kb.Adam(lr=0.01), kb.Adam(lr=0.01)
    flat = {"W1": W1.copy(), "b1": b1.copy(), "W2": W2.copy(), "b2": b2.copy()}
    for _ in range(steps):
        optimizer.update(pairs, kb.grad(network)(pairs))
        dicts.update(flat, kb.grad(lambda p: network([(p["W1"], p["b1"]), (p["W2"], p["b2"])]))(flat))
    assert pairs[0][0] is held
    for one, other in zip([*pairs[0], *pairs[1]], flat.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_number_is_replaced_in_a_list_and_refused_in_a_tuple():
    params = [1.0, np.ones(2)]
    kb.SGD(lr=0.5).update(params, [2.0, np.ones(2)])
    assert params[0] == 0.0
    np.testing.assert_array_equal(params[1], [0.5, 0.5])
    with pytest.raises(InputError, match=r"params\[0\]\[1\] is a number in a tuple"):
        kb.SGD(lr=0.5).update([(np.ones(2), 1.0)], [(np.ones(2), 1.0)])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], "is empty"),
        ([(W1, [])], r"x0\[0\]\[1\] is an empty list"),
        ({"a": []}, r"x0\['a'\] is an empty list"),
        ([(W1, b1), ()], r"x0\[1\] is an empty tuple"),
        ([W1, "text"], r"x0\[1\] is of dtype"),
        ([W1, None], r"x0\[1\] is of object dtype"),
        ([W1, 1j], r"x0\[1\] is complex"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
        ([b1, [1.0, [2.0, 3.0]]], r"x0\[1\] is not an array of numbers"),
        ([np.array([1.0, np.nan])], r"x0\[0\]\[1\] = nan"),
        ({"a": {1: W1}}, "strings as keys"),
    ],
)
def test_what_is_no_structure_is_refused_by_name(x, message):
    with pytest.raises(InputError, match=message):
        flatten(x)
    if "nan" not in message:
        with pytest.raises(InputError):
            kb.grad(lambda p: 0.0)(x)


def test_another_form_is_refused():
    layout, _ = flatten([(W1, b1), (W2, b2)])
    for value, message in (
        ([(W1, b1)], "must be a list of 2 parts, got 1"),
        ({"a": W1}, "must be a list of 2 parts, got a dict"),
        ([(W1, b1), W2], r"g\[1\] must be a tuple of 2 parts, got a ndarray"),
        ([(W1, b1), (W2, b1)], r"g\[1\]\[1\] has shape \(3,\)"),
    ):
        with pytest.raises(InputError, match=message):
            layout.match(value, "g")
    with pytest.raises(InputError, match="v must be a list of 2 parts"):
        kb.hvp(network)([(W1, b1), (W2, b2)], [(W1, b1)])


def test_lists_of_numbers_stay_one_array():
    for x in ([1.0, 2.0], (1.0, 2.0), [[1.0, 2.0], [3.0, 4.0]], [(1.0, 2.0)], [np.float64(1.0), np.array(2.0)]):
        assert flatten(x)[0].names is None
        np.testing.assert_array_equal(kb.grad(lambda v: np.sum(v * v))(x), 2 * np.asarray(x))


def test_structures_among_several_arguments():
    g = kb.grad(lambda a, p: np.sum(a * p[0]) + p[1]["k"] * np.sum(a), argnums=(0, 1))(b1, [b1 + 1.0, {"k": 1.5}])
    np.testing.assert_allclose(g[0], b1 + 2.5)
    np.testing.assert_allclose(g[1][0], b1)
    assert g[1][1]["k"] == pytest.approx(np.sum(b1))
