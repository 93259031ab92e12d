"""Verdicts on runs whose fault is known, remedies that are tried, and what a diagnosis may cost and change."""

import pickle
import string

import numpy as np
import pytest
from support.labelled import each, healthy, healthy_trainings, table

import koubai as kb
from koubai.diagnosis.verdicts import FAULTS
from koubai.errors import InputError
from koubai.messages import LANGUAGES, catalogue, language

SEED = 20261130  # never looked at when a threshold was chosen
PART = 9  # every so manieth of a suite is fast


def diagnosed(labelled_runs):
    found = []
    for labelled in labelled_runs:
        run = labelled.run()
        diagnosis = run.diagnose(lang="en")
        most = max(60, run.njev // 5)
        assert diagnosis.njev <= most, f"{labelled.name}: {diagnosis.njev} gradients of {most}"
        assert "{" not in str(diagnosis) and "{" not in str(diagnosis.in_language("ja"))  # noqa: PT018
        found.append((labelled, diagnosis.code))
    return found


def check(found, least):
    right = [code in labelled.codes for labelled, code in found]
    assert np.mean(right) >= least, table(found)


def test_some_of_the_faults_are_named():
    check(diagnosed([*each(SEED)][::PART]), 0.9)


def test_some_of_what_is_healthy_is_called_so():
    check(diagnosed([*healthy(SEED)][::PART] + [*healthy_trainings(SEED)][::PART]), 1.0)


@pytest.mark.slow
def test_the_faults_are_named():
    found = diagnosed(each(SEED + 1))
    check(found, 0.95)
    assert {labelled.codes[0] for labelled, _ in found} == set(FAULTS)
    counts = [sum(labelled.codes[0] == code for labelled, _ in found) for code in FAULTS]
    assert min(counts) >= 10
    assert len(found) >= 180


@pytest.mark.slow
def test_what_is_healthy_is_called_so():
    found = diagnosed([*healthy(SEED), *healthy(SEED + 1), *healthy_trainings(SEED)])
    assert len(found) >= 300
    assert sum(code not in labelled.codes for labelled, code in found) <= 2, table(found)


FALLS = {
    "a plane": (kb.parse("x+y"), [2.5, 1.5], kb.SGD(0.95)),
    "a steeper plane": (kb.parse("x+2*y"), [2.5, 1.5], kb.SGD(0.95)),
    "a line": (kb.parse("x"), [2.5], kb.SGD(0.95)),
    "a line, crept along": (kb.parse("x"), [2.5], kb.SGD(1e-4)),
    "a plane by Adam": (kb.parse("x+2*y"), [2.5, 1.5], kb.Adam(0.1)),
    "a plane by Momentum": (kb.parse("x+2*y"), [2.5, 1.5], kb.Momentum(0.1)),
    "a plane with a constant": (kb.parse("x+y+1e6"), [2.5, 1.5], kb.SGD(0.95)),
    "a maximum of two": (lambda x: np.maximum(x[0], x[1]), [2.5, 1.5], kb.SGD(0.95)),
    "a maximum of two slopes": (lambda x: np.maximum(2 * x[0], x[1]), [2.5, 1.5], kb.SGD(0.05)),
    "a gutter": (kb.parse("x+y**2"), [2.5, 1.5], kb.SGD(0.1)),
    "a sharp gutter": (lambda x: x[0] + np.abs(x[1]), [2.5, 1.5], kb.SGD(0.1)),
    "waves downhill": (kb.parse("x+sin(x)/2"), [0.5], kb.SGD(0.1)),
    "a root": (kb.parse("-sqrt(x)"), [0.5], kb.SGD(0.1)),
}


@pytest.mark.parametrize("steps", [5, 200])
@pytest.mark.parametrize("name", FALLS)
def test_what_falls_without_end_is_in_no_minimum(name, steps):
    f, x0, optimizer = FALLS[name]
    found = kb.minimize(f, x0, optimizer, max_steps=steps, gtol=1e-6).diagnose()
    if steps == 200:
        assert found.code == "unbounded"
        assert found.verify().helped
    assert found.code in ("unbounded", "unfinished", "lr_too_small")


@pytest.mark.parametrize(
    ("f", "x0", "options"),
    [
        (kb.parse("-log(x)"), [0.5], {}),  # without end, but a logarithm is not told from what ends
        (kb.parse("x**2/20+y**2"), [1e12, 1.0], {"lr": 0.95, "max_steps": 20}),
        (kb.parse("x**2/20+y**2"), [1e12, 1.0], {"lr": 0.95, "max_steps": 90}),
        (kb.parse("x**2/20+y**2"), [1e12, 1.0], {"lr": 0.95, "max_steps": 150}),
        (kb.parse("x**3-3*x"), [1.9], {"lr": 0.01}),  # falls without end on the far side of a hill
        (kb.parse("1e-3*x+exp(-x)"), [1.0], {"gtol": 1e-2, "max_steps": 1000}),  # stopped too early
    ],
)
def test_what_is_on_its_way_is_not_finished(f, x0, options):
    found = kb.minimize(f, x0, **{"lr": 0.1, "max_steps": 200, **options}).diagnose(lang="en")
    assert found.code == "unfinished"
    assert found.finding.text != "unfinished.near" or abs(found.run.jac[0]) < 0.1


def test_bounds_that_were_given_are_not_widened():
    run = kb.minimize(kb.parse("x+2*y"), [2.5, 1.5], lr=0.1, max_steps=50, bounds=(None, 3.0))
    found = run.diagnose()
    assert found.code == "unbounded"
    assert found.remedy.change["bounds"] == (-20.0, 3.0)


def blobs_network():
    return kb.nn.Network([kb.nn.Dense(8), kb.nn.ReLU(), kb.nn.Dense(3)], kb.nn.CrossEntropy(), seed=0)


def squares(w, X, y):
    return np.mean((X @ w - y) ** 2)


NOT_BEGUN = {
    "a descent": lambda X, y: kb.minimize(kb.parse("x**2/20+y**2"), [2.5, 1.5], kb.SGD(0.95), max_steps=0),
    "a search": lambda X, y: kb.minimize(kb.parse("x**2/20+y**2"), [2.5, 1.5], "lbfgs", max_steps=0),
    "at a kink": lambda X, y: kb.minimize(lambda x: np.sum(np.abs(x)), [1.0], kb.SGD(0.95), max_steps=0),
    "differences": lambda X, y: kb.minimize(kb.parse("x**2"), [1.0], kb.Adam(0.1), max_steps=0, grad="central"),
    "batches": lambda X, y: kb.minimize(
        squares, np.zeros(2), kb.SGD(0.1), batches=kb.nn.batches(X, y * 1.0, size=10, seed=0), max_steps=0
    ),
    "a fit": lambda X, y: kb.fit(squares, np.zeros(2), (X, y * 1.0), kb.SGD(0.1), epochs=0),
    "a training": lambda X, y: blobs_network().fit(X, y, kb.SGD(0.1), epochs=0),
    "a training with validation": lambda X, y: blobs_network().fit(X, y, kb.Adam(0.1), epochs=0, validation=0.2),
    "a training by a schedule": lambda X, y: blobs_network().fit(X, y, kb.SGD(kb.schedules.cosine(0.1, 10)), epochs=0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NOT_BEGUN)
def test_what_has_not_begun_is_told_so(name):
    found = NOT_BEGUN[name](*kb.nn.blobs(120, seed=0)).diagnose(lang="en")
    assert (found.code, found.finding.text) == ("unfinished", "unfinished.none")
    assert "no step was made" in found.explanation
    assert {"max_steps", "epochs"} & set(found.remedy.change)
    assert "no step was made" not in str(found.in_language("ja"))
    assert found.verify().after.nit > 0


def test_no_step_is_needed_at_a_minimum():
    for steps in (0, 100):
        run = kb.minimize(kb.parse("x**2/20+y**2"), [0.0, 0.0], kb.SGD(0.95), max_steps=steps)
        assert (run.nit, run.diagnose().code) == (0, "converged")
    assert kb.minimize(kb.parse("x**2-y**2"), [0.0, 0.0], kb.SGD(0.95), max_steps=0).diagnose().code == "saddle"


EDGES = {
    "a logarithm": (kb.parse("log(x)+y**2"), [2.0, 2.0], kb.SGD(0.95)),
    "a logarithm, slowly": (kb.parse("log(x)+y**2"), [2.0, 2.0], kb.SGD(0.1)),
    "a logarithm by Adam": (kb.parse("log(x)+y**2"), [2.0, 2.0], kb.Adam(0.1)),
    "a logarithm by a search": (kb.parse("log(x)+y**2"), [2.0, 2.0], kb.LBFGS()),
    "a logarithm alone": (kb.parse("log(x)"), [0.5], kb.SGD(0.95)),
    "a root": (kb.parse("sqrt(x)+y**2"), [2.0, 2.0], kb.SGD(0.3)),
    "the upper edge": (kb.parse("log(3-x)+y**2"), [2.0, 2.0], kb.SGD(0.3)),
    "an inverse sine": (lambda x: np.arcsin(x) - x, -0.8, kb.SGD(0.7)),
    "a dict": (lambda p: np.log(p["a"]) + np.sum(p["b"] ** 2), {"a": 2.0, "b": np.ones(2)}, kb.SGD(0.3)),
}


@pytest.mark.parametrize("name", EDGES)
def test_no_rate_is_named_where_f_falls_to_the_edge_of_its_domain(name):
    f, x0, optimizer = EDGES[name]
    found = kb.minimize(f, x0, optimizer).diagnose(lang="en")
    assert (found.code, found.finding.text) == ("nonfinite", "nonfinite.edge")
    assert found.remedies
    assert all("bounds" in remedy.change for remedy in found.remedies)
    check = found.verify()
    assert check.helped
    assert check.after.success


@pytest.mark.parametrize(("f", "x0", "lr"), [("x*log(x)", [2.0], 1.5), ("x-log(x)", [3.0], 5.0)])
def test_a_rate_is_named_where_it_keeps_f_in_its_domain(f, x0, lr):
    found = kb.minimize(kb.parse(f), x0, lr=lr).diagnose()
    assert (found.code, found.finding.text) == ("nonfinite", "nonfinite")
    assert kb.minimize(kb.parse(f), x0, lr=found.remedy.change["lr"]).success


@pytest.mark.parametrize("code", ["lr_too_large", "lr_too_small", "ill_conditioned"])
def test_the_remedy_helps(code):
    smooth = [labelled for labelled in each(SEED + 2) if labelled.codes == (code,)]
    found = [
        (labelled.name, diagnosis.verify())
        for labelled in smooth
        if (diagnosis := labelled.run().diagnose()).code == code
    ]
    assert len(found) >= 0.8 * len(smooth)
    failed = [(name, check.before, check.after) for name, check in found if not check.helped]
    assert len(failed) <= 0.05 * len(found), failed


def test_a_remedy_that_does_not_help_is_told_so():
    run = kb.minimize(lambda x: np.sum(x), [1.0, 2.0], kb.SGD(lr=1e8), max_steps=2000, bounds=None)
    check = run.diagnose(lang="en").verify()
    assert check.tried
    assert check.helped == bool(check)
    assert repr(check).startswith("It helped" if check.helped else "It did not help")


def test_nothing_of_the_run_changes():
    w, calls = np.array([1.0, -2.0]), []

    def f(x):
        calls.append(1)
        return np.sum((x - w) ** 2)

    run = kb.minimize(f, [0.0, 0.0], kb.SGD(lr=1e-6), max_steps=50)
    before = pickle.dumps((run.x, run.history.x, run.nfev, run.njev, run.optimizer))
    run.diagnose().verify()
    assert pickle.dumps((run.x, run.history.x, run.nfev, run.njev, run.optimizer)) == before


def test_nothing_of_a_network_changes():
    X, y = kb.nn.blobs(120, seed=0)
    layers = [kb.nn.Dense(8), kb.nn.BatchNorm(), kb.nn.ReLU(), kb.nn.Dropout(0.2), kb.nn.Dense(3)]
    network = kb.nn.Network(layers, kb.nn.CrossEntropy(), seed=0)
    run = network.fit(X, y, kb.SGD(lr=1e-6), epochs=4)
    before = network.vector.copy(), network.carried.copy()
    run.diagnose().verify()
    assert all(np.array_equal(a, b) for a, b in zip(before, (network.vector, network.carried), strict=True))


def test_a_run_from_a_file(tmp_path):
    run = kb.minimize(kb.parse("x**2"), 3.0, lr=10.0)
    run.save(tmp_path / "run.npz")
    found = kb.load(tmp_path / "run.npz").diagnose()
    assert found.code == run.diagnose().code == "lr_too_large"
    with pytest.raises(InputError, match="from a file"):
        found.verify()
    run = kb.minimize(lambda x: x**2, 3.0, lr=10.0)
    run.save(tmp_path / "run.npz")
    with pytest.raises(InputError, match="without its function"):
        kb.load(tmp_path / "run.npz").diagnose()
    assert kb.load(tmp_path / "run.npz", lambda x: x**2).diagnose().code == "lr_too_large"


def test_the_first_operation_that_is_not_finite_is_named_with_its_line():
    def f(x):
        inside = x - 1.0
        return np.sum(np.log(inside)) + np.sum(x)

    run = kb.minimize(f, [1.5, 2.0], kb.SGD(lr=0.4), max_steps=100)
    evidence = run.diagnose().evidence
    assert run.status is kb.Status.nonfinite
    assert evidence["operation"].value.startswith("log(-")
    assert f"line {f.__code__.co_firstlineno + 2}" in evidence["place"].value or (
        f":{f.__code__.co_firstlineno + 2}" in evidence["place"].value
    )


def test_again_changes_what_is_asked_for_and_nothing_else():
    run = kb.minimize(lambda x: (x - 3) ** 2, 0.0, kb.Momentum(lr=0.1, momentum=0.5), max_steps=7, gtol=0)
    assert run.again().x == run.x
    assert run.again(lr=0.2).optimizer.momentum == 0.5
    assert run.again(lr=0.2).optimizer.lr == 0.2
    assert run.optimizer.lr == 0.1
    assert run.again(optimizer="lbfgs").nit < 7
    assert run.again(x0=2.0, max_steps=1).history.x.tolist()[0] == 2.0
    loss, data = (lambda w, x, y: np.mean((w * x - y) ** 2)), (np.arange(8.0), 2 * np.arange(8.0))
    run = kb.fit(loss, 0.0, data, kb.SGD(lr=0.01), epochs=2, batch_size=4)
    assert run.again().x == run.x
    assert run.again(epochs=3).nit == 6


def test_the_catalogues_are_equal_in_names_and_places():
    texts = [catalogue(lang) for lang in LANGUAGES]
    assert texts[0].keys() == texts[1].keys()
    for name in texts[0]:
        places = [{field for _, field, _, _ in string.Formatter().parse(text[name]) if field} for text in texts]
        assert places[0] == places[1], name


@pytest.mark.parametrize(
    ("locale", "expected"), [("ja_JP.UTF-8", "ja"), ("en_US.UTF-8", "en"), ("C", "en"), ("fr_FR", "en")]
)
def test_the_language_is_the_locales(locale, expected, monkeypatch):
    monkeypatch.setenv("LC_ALL", locale)
    assert language() == expected
    assert language("en") == "en"
    with pytest.raises(InputError, match="lang must be one of 'en', 'ja'"):
        language("fr")


@pytest.mark.parametrize("wrong", [None, 3, "run.npz"])
def test_what_is_no_run_is_refused(wrong):
    with pytest.raises(InputError, match="run must be a Run"):
        kb.diagnose(wrong)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_minimum_on_a_bound_is_no_saddle(optimizer):
    """F bends down towards the bound that holds it; a saddle within the bounds is still one."""
    box = [(0.1, None), (None, None)]
    found = kb.minimize(lambda x: np.log(x[0]) + x[1] ** 2, [1.0, 1.0], optimizer, bounds=box).diagnose()
    assert found.code == "converged"
    wide = [(-5.0, 5.0), (-5.0, 5.0), (1.0, 2.0)]
    saddle = kb.minimize(lambda x: x[0] ** 2 - x[1] ** 2 + x[2], [1.0, 0.0, 1.5], optimizer, bounds=wide)
    assert saddle.diagnose().code == "saddle"
