import concurrent.futures
import copy
import inspect
import multiprocessing
import pickle
import re
import sys
import warnings

import numpy as np
import pytest

import koubai as kb
import koubai.errors as errors
from koubai import synonyms
from koubai.derivatives import differences
from koubai.errors import FallbackWarning


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    for name in (name for name in errors.__all__ if name not in ("called", "is_told_to_raise", "quiet", "warn")):
        assert f"{name} " in errors.__doc__ or f"{name}\n" in errors.__doc__
        cls = getattr(errors, name)
        assert inspect.getdoc(cls)
        assert issubclass(cls, errors.KoubaiError | KeyboardInterrupt | UserWarning)


@pytest.mark.parametrize(("name", "near"), [("rosenbrok", "rosenbrock"), ("Himmelblau", "himmelblau"), ("zzz", None)])
def test_unknown_names_suggest_the_nearest(name, near):
    error = errors.UnknownNameError("problem", name, ["rosenbrock", "himmelblau", "beale"])
    assert error.suggestion == near
    assert ("did you mean" in str(error)) is (near is not None)
    assert ("known: beale, himmelblau, rosenbrock" in str(error)) is (name != "Himmelblau")


# --- to another process
RUN = kb.minimize(lambda x: (x - 1) ** 2, 3.0, kb.SGD(lr=lambda t: 0.1), max_steps=3)
SENT = {
    type(error).__name__: error
    for error in (
        errors.KoubaiError("the base of all"),
        errors.InputError("x0 is empty"),
        errors.UnknownNameError("problem", "rosenbrok", (name for name in ["rosenbrock"])),
        errors.ExpressionError("there is no operator"),
        errors.MissingPackageError("the digits need", "scikit-learn"),
        errors.FunctionError("f(x) returned None"),
        errors.TraceError("np.histogram takes no traced value", "write it otherwise", "a.py", 3),
        errors.GradientError("1.0, but 2.0"),
        errors.CompileError("node 3 has no shape"),
        errors.Interrupted(RUN),
        errors.FallbackWarning(ValueError("why"), 30),
        errors.GradientWarning("not sharp"),
        errors.CompileWarning("llvmlite is not installed"),
        errors.CheckpointWarning("the disk is full"),
    )
}
for error in SENT.values():
    error.add_note("at step 3")


def raise_one(name):
    raise SENT[name]


def assert_same_error(error, sent):
    assert type(error) is type(sent)
    assert str(error) == str(sent)
    assert error.args == sent.args
    assert error.__notes__ == sent.__notes__
    assert {k: v for k, v in vars(error).items() if k != "run"} == {k: v for k, v in vars(sent).items() if k != "run"}


def test_every_exception_can_be_sent_to_another_process():
    assert set(SENT) == {name for name in errors.__all__ if inspect.isclass(getattr(errors, name)) and name != "quiet"}
    for sent in SENT.values():
        for twin in (pickle.loads(pickle.dumps(sent)), copy.copy(sent)):
            assert_same_error(twin, sent)
    twin = pickle.loads(pickle.dumps(SENT["Interrupted"]))
    assert (twin.run.x, twin.run.status, repr(twin.run.optimizer)) == (RUN.x, RUN.status, repr(str(RUN.optimizer)))
    with pytest.raises(errors.FunctionError, match="loaded without its function"):
        twin.run.function(1.0)
    known = kb.minimize(kb.parse("(x-1)**2"), 3.0)
    assert pickle.loads(pickle.dumps(errors.Interrupted(known))).run.function == known.function


def test_every_exception_arrives_from_a_pool():
    """Sixteen processes raise each of them; one that could not be unpickled would let the pool wait for ever."""
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["koubai.descent.compiled_stepper", "pytest"])  # so that each is imported once
    with concurrent.futures.ProcessPoolExecutor(16, mp_context=context) as pool:
        raised = [(name, pool.submit(raise_one, name)) for name in list(SENT) * 16]
        for name, future in raised:
            assert_same_error(future.exception(timeout=120), SENT[name])


# --- where warnings point
def untraceable(x):
    return np.sum(np.histogram(x, bins="auto")[0]) + np.sum(x**2)


def lossy(p, X, y):
    return np.mean(X * y) * untraceable(p["w"])


def root(x):
    with np.errstate(all="ignore"):
        return np.sqrt(x)[0]


X, W = np.array([1.0, 2.0]), {"w": np.ones(2)}
CALLS = {
    "grad": lambda: kb.grad(untraceable)(X),
    "value_and_grad": lambda: kb.value_and_grad(untraceable)(X),
    "differences": lambda: kb.grad(lambda x: np.abs(x[0]), method="adaptive")(np.zeros(1)),
    "not finite": lambda: kb.grad(root)(np.zeros(1)),
    "jacobian": lambda: kb.jacobian(root)(np.zeros(1)),
    "hessian": lambda: kb.hessian(lambda x: x[0] ** 1.5)(np.zeros(1)),
    "hvp": lambda: kb.hvp(lambda x: x[0] ** 1.5)(np.zeros(1), np.ones(1)),
    "minimize": lambda: kb.minimize(untraceable, X, max_steps=3),
    "iterate": lambda: list(kb.iterate(untraceable, X, max_steps=3)),
    "fit": lambda: kb.fit(lossy, W, kb.nn.batches(X, X, 2), epochs=1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_points_at_the_users_line(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert seen
    line = call.__code__.co_firstlineno
    assert {(w.filename, w.lineno) for w in seen} == {(__file__, line)}


def test_a_fallback_says_what_a_gradient_costs():
    gradient = kb.value_and_grad(untraceable)
    with pytest.warns(FallbackWarning, match=r"test_errors\.py:\d+: .* (\d+) evaluations of f a gradient") as seen:
        gradient(X)
    told = int(re.search(r"(\d+) evaluations", str(seen[0].message)).group(1))
    before = gradient.nfev
    gradient(X)
    assert gradient.nfev - before == told


# --- other people's words
def network():
    return kb.nn.Network([kb.nn.Dense(2)], kb.nn.CrossEntropy())


def asked(**options):
    kb.minimize(np.sum, [1.0], **options)


WORDS = [
    # call, what its message says
    *((lambda word=word: asked(**{word: 1}), expected) for word, expected in {
        "method": "'optimizer'", "jac": "'grad'", "hess": "leave it out", "hessp": "leave it out", "tol": "'gtol'",
        "maxiter": "'max_steps'", "n_iter": "'max_steps'", "iterations": "'max_steps'", "steps": "'max_steps'",
        "step_num": "'max_steps'", "epochs": "'max_steps'", "callback": "'on_step'", "learning_rate": "'lr'",
        "eta": "'lr'", "alpha": "'lr'", "step_size": "'lr'", "betas": "belongs to the optimizer",
        "epsilon": "belongs to the optimizer", "rho": "belongs to the optimizer", "momentum": "kb.SGD(lr=0.1, momentum",
        "amsgrad": "kb.AMSGrad", "options": "arguments of their own", "constraints": "as a penalty",
        "disp": "'progress'", "random_state": "'seed'", "batch_size": "'batches'", "init_x": "'x0'",
        "gtoll": "did you mean 'gtol'? known: ",
    }.items()),
    (lambda: kb.iterate(np.sum, [1.0], maxiter=3), "'max_steps'"),
    (lambda: kb.iterate(np.sum, [1.0], callback=print), "inside the loop"),
    (lambda: kb.iterate(np.sum, [1.0], on_step=print), "inside the loop"),
    (lambda: kb.resume("c", np.sum, maxiter=3), "'max_steps'"),
    (lambda: kb.derivative(np.sin, 1.0, dx=1e-3), "'h'"),
    (lambda: kb.derivative(np.sin, 1.0, order=2), "'n'"),
    (lambda: kb.numerical_gradient(np.sum, [1.0], eps=1e-4), "'h'"),
    (lambda: kb.numerical_gradient(np.sum, [1.0], epsilon=1e-4), "'h'"),
    (lambda: kb.grad(np.sum, argnum=0), "'argnums'"),
    (lambda: kb.hessian(np.sum, wrt=0), "'argnums'"),
    (lambda: kb.jacobian(np.sum, metod="central"), "did you mean 'method'? known: "),
    (lambda: kb.value_and_grad(np.sum, argnum=0), "'argnums'"),
    (lambda: kb.hvp(np.sum, argnum=0), "'argnums'"),
    (lambda: kb.check_gradient(np.sum, np.ones(2), np.ones(2), rng=0), "'seed'"),
    (lambda: kb.fit(np.sum, 1.0, (np.ones(3),), n_iter=0), "'epochs'"),
    (lambda: kb.fit(np.sum, 1.0, (np.ones(3),), lr=0.1), "belongs to the optimizer"),
    (lambda: network().fit(np.ones((2, 2)), [0, 1], learning_rate=0.1), "belongs to the optimizer"),
    (lambda: network().fit(np.ones((2, 2)), [0, 1], batch=1), "'batch_size'"),
    (lambda: network().fit(np.ones((2, 2)), [0, 1], callback=print), "'on_epoch'"),
    (lambda: network().fit(np.ones((2, 2)), [0, 1], validation_data=None), "'validation'"),
    (lambda: kb.Adam(learning_rate=0.1), "'lr'"),
    (lambda: kb.Adam(eta=0.1), "'lr'"),
    (lambda: kb.SGD(alpha=0.1), "'lr'"),
    (lambda: kb.Adam(betas=(0.9, 0.99)), "beta1=0.9, beta2=0.999"),
    (lambda: kb.Adam(epsilon=1e-7), "'eps'"),
    (lambda: kb.Adam(beta_1=0.9), "'beta1'"),
    (lambda: kb.RMSprop(rho=0.9), "'alpha'"),
    (lambda: kb.RMSprop(decay_rate=0.99), "'alpha'"),
    (lambda: kb.SGD(mu=0.9), "'momentum'"),
    (lambda: kb.SGD(maximize=True), "give it -f"),
    (lambda: kb.Adam(ams_grad=True), "'amsgrad'"),
    *((lambda name=name: kb.minimize(np.sum, [1.0], name), expected) for name, expected in {
        "BFGS": "'lbfgs'", "L-BFGS-B": "'lbfgs'; it takes bounds=", "nelder-mead": "'lbfgs'; koubai follows gradients",
        "trust-constr": "as a penalty", "cg": "'conjugategradient'", "Newton-CG": "'lbfgs'", "SLSQP": "'lbfgs'",
        "lm": "'levenbergmarquardt'", "nag": "'nesterov'", "gradient_descent": "'gradientdescent'", "gd": "'gradientd",
        "adamm": "did you mean 'adam'? known: ",
    }.items()),
    *((lambda word=word: kb.minimize(np.sum, [1.0], grad=word), expected) for word, expected in {
        "2-point": "'forward'", "3-point": "'central'", "cs": "'complex'", None: "'auto'", False: "'auto'",
        "numerical": "'adaptive'",
    }.items()),
]  # fmt: skip


@pytest.mark.parametrize(("call", "expected"), WORDS, ids=[f"{i}-{expected}" for i, (_, expected) in enumerate(WORDS)])
def test_other_peoples_words_are_answered_with_koubais(call, expected):
    with pytest.raises(errors.UnknownNameError) as raised:
        call()
    assert expected in str(raised.value)
    assert ("known:" in str(raised.value)) is ("known:" in expected)


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        (kb, "AdaGrad", "'Adagrad'"),
        (kb, "Nadam", "'NAdam'"),
        (kb, "RMSProp", "'RMSprop'"),
        (kb, "SGDMomentum", "'Momentum'"),
        (kb, "BFGS", "'LBFGS'"),
        (kb, "numerical_diff", "'derivative'"),
        (kb, "gradient_descent", "kb.minimize(f, x0, lr=0.1)"),
        (kb, "gradient", "'grad'"),
        (kb, "gradient_check", "'check_gradient'"),
        (kb, "minimise", "did you mean 'minimize'?"),
        (kb, "Affine", "'nn.Dense'"),
        (kb, "Relu", "'nn.ReLU'"),
        (kb, "softmax", "nn.Softmax().forward(x)"),
        (kb.optimizers, "AdaGrad", "'Adagrad'"),
        (kb.optimizers, "BFGS", "'LBFGS'"),
        (kb.schedules, "CosineAnnealingLR", "'cosine'"),
        (kb.schedules, "ReduceLROnPlateau", "'plateau'"),
        (kb.nn, "Relu", "'ReLU'"),
        (kb.nn, "Affine", "'Dense'"),
        (kb.nn, "Linear", "'Dense'"),
        (kb.nn, "Conv2d", "'Conv2D'"),
        (kb.nn, "CrossEntropyLoss", "'CrossEntropy'"),
        (kb.nn, "SoftmaxWithLoss", "'CrossEntropy'; it takes logits"),
        (kb.nn, "Sequential", "nn.Network(["),
        (kb.nn, "LSTM", "a Layer of your own"),
        (kb.nn, "DataLoader", "'batches'"),
    ],
)
def test_other_peoples_names_are_answered_with_koubais(module, name, expected):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': ") as raised:
        getattr(module, name)
    assert expected in str(raised.value)
    assert not hasattr(module, "__wrapped__")


def test_every_meaning_is_a_word_of_koubais():
    """No row of the table names what is not there any more."""
    functions = [kb.minimize, kb.resume, kb.fit, kb.derivative, kb.numerical_gradient, kb.grad, kb.nn.Network.fit]
    known = {name for f in functions for name in inspect.signature(f).parameters}
    known |= {name for optimizer in kb.optimizers.names() for name in kb.optimizers.resolve(optimizer).hyperparameters}
    known |= {name for module in (kb, kb.nn, kb.schedules) for name in module.__all__}
    known |= {*kb.optimizers.names(), *differences.METHODS, "auto", "backprop"}
    known = {synonyms.plain(name) for name in known}
    for word, meanings in synonyms.SYNONYMS.items():
        assert word == synonyms.plain(word)
        for meaning in meanings:
            name, _, more = meaning[1:].partition(") ") if meaning[0] == "(" else meaning.partition(": ")
            assert synonyms.plain(name) in known, (word, name)
            assert more or meaning[0] != "("


@pytest.mark.parametrize(("third", "fix"), [((1.0, 2.0), r"write args=\(…\)"), (0.1, "write lr=0.1")])
def test_scipys_third_argument_is_answered(third, fix):
    with pytest.raises(errors.InputError, match=fix):
        kb.minimize(np.sum, [1.0], third)


def test_an_optimizer_does_not_hold_the_parameters():
    with pytest.raises(errors.InputError, match=r"write SGD\(lr=0.1\): the parameters go to update"):
        kb.SGD([np.ones(2)], lr=0.1)
    assert copy.copy(pickle.loads(pickle.dumps(kb.Adam(0.2)))) == kb.Adam(lr=0.2)


def test_a_table_of_the_users_is_not_answered_by_it():
    error = errors.UnknownNameError("column", "alpha", ["width", "height"])
    assert str(error) == "unknown column 'alpha': known: height, width"


def overflowing(settings):
    """Overflow with the caller's settings, within `quiet`, and in a function called from there."""
    told = []
    with np.errstate(**settings, call=lambda kind, flag: told.append(kind)):
        for _ in range(2):
            with errors.quiet():
                np.float64(1e300) * np.float64(1e300)
                assert not told
                errors.called(lambda: np.float64(1e300) * np.float64(1e300))
                assert told
                told.clear()
                np.float64(1e300) * np.float64(1e300)
                assert not told
            np.float64(1e300) * np.float64(1e300)
            assert told
            told.clear()


@pytest.mark.parametrize("by", ["NumPy's settings", "np.errstate"])
def test_quiet_leaves_the_callers_error_settings_alone(by, monkeypatch):
    if by == "np.errstate":
        monkeypatch.setattr(errors, "_hushed", errors._silenced)
        monkeypatch.setattr(errors, "_loud", errors._restored)
    before, size = np.geterr(), np.getbufsize()
    overflowing({"over": "call"})
    overflowing({"all": "call"})
    np.setbufsize(2 * size)
    try:
        with errors.quiet():
            assert np.getbufsize() == 2 * size
            assert set(np.geterr().values()) == {"ignore"}
    finally:
        np.setbufsize(size)
    with errors.quiet():
        assert np.getbufsize() == size
    assert np.geterr() == before


def test_quiet_is_of_each_thread():
    def asked():
        with np.errstate(all="raise"), errors.quiet():
            return set(np.geterr().values()), errors.called(lambda: set(np.geterr().values()))

    with concurrent.futures.ThreadPoolExecutor(4) as pool, errors.quiet():
        answers = [future.result() for future in [pool.submit(asked) for _ in range(50)]]
    assert answers == [({"ignore"}, {"raise"})] * 50
