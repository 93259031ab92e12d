import numpy as np
import pytest

from koubai.errors import FunctionError, InputError
from koubai.parameters import as_scalar, flatten


@pytest.mark.parametrize(
    "x",
    [2.0, 3, np.float64(1.5), [1.0, 2.0], (1, 2, 3), np.arange(6.0).reshape(2, 3), {"W": np.ones((2, 2)), "b": 3.0}],
)
def test_a_vector_is_shown_in_the_form_it_came_in(x):
    layout, vector = flatten(x)
    shown = layout.view(vector)
    assert vector.dtype == np.float64
    assert vector.size == layout.size
    if isinstance(x, dict):
        assert list(shown) == list(x)
        assert all(np.array_equal(shown[k], x[k]) and np.shape(shown[k]) == np.shape(x[k]) for k in x)
    else:
        assert np.array_equal(shown, x)
        assert np.shape(shown) == np.shape(x)


def test_dict_views_share_the_vector():
    layout, vector = flatten({"W": np.zeros((2, 2)), "b": np.zeros(2)})
    layout.view(vector)["b"][1] = 7
    assert vector[5] == 7
    layout.copy(vector)["b"][1] = 9
    assert vector[5] == 7


def test_leading_axes_are_kept():
    layout, _ = flatten({"W": np.zeros((2, 2)), "b": 0.0})
    rows = np.arange(15.0).reshape(3, 5)
    shown = layout.view(rows)
    assert shown["W"].shape == (3, 2, 2)
    assert np.array_equal(shown["b"], rows[:, 4])


def test_float32_stays_and_integers_become_float64():
    assert flatten(np.ones(2, np.float32))[1].dtype == np.float32
    assert flatten(np.ones(2, np.int64))[1].dtype == np.float64
    assert flatten(np.ones(2, np.float16))[1].dtype == np.float64


def test_labels_name_elements_as_the_caller_would():
    assert flatten(1.0)[0].label(0) == "x"
    assert flatten(np.zeros((2, 3)))[0].label(4) == "x[1, 1]"
    assert flatten({"W": np.zeros((2, 2)), "b": 0.0})[0].label(3) == "W[1, 1]"
    assert flatten({"W": np.zeros((2, 2)), "b": 0.0})[0].label(4) == "b"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], "x0 is empty"),
        ({}, "x0 is an empty dict"),
        (np.zeros((3, 0)), "x0 is empty"),
        ([1 + 2j], "x0 is complex"),
        (np.array([1.0, None], dtype=object), "x0 is of object dtype"),
        ([[1.0], [1.0, 2.0]], "x0 is not an array of numbers"),
        (None, "x0 is of object dtype"),
        ("3", "x0 is of dtype"),
        (True, "x0 is boolean"),
        ([1.0, np.nan], r"x0\[1\] = nan"),
        ([[1.0, np.inf]], r"x0\[0, 1\] = inf"),
        (float("nan"), "x0 = nan"),
        ({"W": [0.0, np.nan]}, r"W\[1\] = nan"),
        ({1: 2.0}, "strings as keys"),
    ],
)
def test_what_is_no_parameter_is_refused_by_name(x, message):
    with pytest.raises(InputError, match=message):
        flatten(x)


def test_match_refuses_another_form():
    layout, _ = flatten({"W": np.zeros((2, 2)), "b": 0.0})
    with pytest.raises(InputError, match="keys"):
        layout.match({"W": np.zeros((2, 2))}, "the gradient")
    with pytest.raises(InputError, match=r"the gradient\['W'\] has shape \(4,\)"):
        layout.match({"W": np.zeros(4), "b": 0.0}, "the gradient")
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        flatten(np.zeros(2))[0].match(np.zeros(3), "the gradient")
    assert np.array_equal(layout.match({"b": 5, "W": np.ones((2, 2))}, "g"), [1, 1, 1, 1, 5])


@pytest.mark.parametrize("value", [None, "1.0", 1j, [1.0, 2.0], np.zeros((2, 1)), object(), [[1.0], [1.0, 2.0]], True])
def test_what_is_no_scalar_is_refused(value):
    with pytest.raises(FunctionError, match=r"f\(x\) returned"):
        as_scalar(value)


@pytest.mark.parametrize("value", [2.5, 3, np.float32(1.5), np.array([4.0]), np.array(2, np.int32), float("nan")])
def test_scalars_are_taken_as_numpy_scalars(value):
    scalar = as_scalar(value)
    assert isinstance(scalar, np.floating)
    assert np.array_equal(scalar, np.ravel(value)[0], equal_nan=True)
    assert scalar.dtype == (np.float32 if isinstance(value, np.float32) else np.float64)
