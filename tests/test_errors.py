import inspect

import pytest

import koubai.errors as errors


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    for name in errors.__all__:
        assert f"{name} " in errors.__doc__ or f"{name}\n" in errors.__doc__
        cls = getattr(errors, name)
        assert inspect.getdoc(cls)
        assert issubclass(cls, errors.KoubaiError | KeyboardInterrupt | UserWarning)


@pytest.mark.parametrize(("name", "near"), [("rosenbrok", "rosenbrock"), ("Himmelblau", "himmelblau"), ("zzz", None)])
def test_unknown_names_suggest_the_nearest(name, near):
    error = errors.UnknownNameError("problem", name, ["rosenbrock", "himmelblau", "beale"])
    assert error.suggestion == near
    assert ("did you mean" in str(error)) is (near is not None)
    assert "known: beale, himmelblau, rosenbrock" in str(error)
