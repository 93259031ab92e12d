"""The labels of pictures in Japanese: all of them, and only where a font has the characters."""

import re
import string
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.text import Text

import koubai as kb
from koubai import nn, plot
from koubai.descent.record import Status
from koubai.messages import LANGUAGES, catalogue, speaking
from koubai.plot import text as fonts

HIMMELBLAU = kb.problems["himmelblau"]
no_font = not all(any(fonts._has([name], c) for name in fonts._candidates()) for c in "勾ア")
needs_font = pytest.mark.skipif(no_font, reason="no Japanese font is installed")


@cache
def descent(lr=0.01, size=2):
    if size == 1:
        return kb.minimize(lambda x: x**4 - 3 * x**2 + x, 2.0, lr=lr, max_steps=50)
    return kb.minimize(HIMMELBLAU.f, [0.0, 0.0], lr=lr, max_steps=50)


@cache
def trained():
    X, y = nn.moons(60)
    network = nn.Network([nn.Dense(8), nn.ReLU(), nn.Dense(2)], nn.CrossEntropy())
    return network, network.fit(X, y, "adam", epochs=3, validation=nn.moons(20)), X, y


@cache
def raced():
    return kb.race(HIMMELBLAU.f, [0.0, 0.0], ["sgd", "adam"], budget=60, starts=2)


@cache
def stochastic():
    loss, data = (lambda w, x, y: np.mean((w * x - y) ** 2)), (np.arange(8.0), 2 * np.arange(8.0))
    return kb.fit(loss, 0.0, data, kb.SGD(lr=0.01), epochs=2, batch_size=4)


PICTURES = {
    "path_1d": lambda: plot.run(descent(size=1), minima=[-1.3]),
    "path_2d": lambda: plot.run(descent(), minima=HIMMELBLAU.minima),
    "diverged": lambda: plot.run(kb.minimize(lambda x: np.sum(x**2), [-3.0, 4.0], lr=10.0)),
    "gaps": lambda: plot.run(kb.minimize(lambda x: np.log(x[0]) ** 2 + x[1] ** 2, [1.5, 1.0], lr=0.05, max_steps=9)),
    "convergence": lambda: plot.convergence(kb.minimize(lambda x: np.sum(x**2) - 3, [1.0, 2.0], lr=0.1)),
    "stochastic": lambda: plot.run(stochastic()),
    "compare": lambda: plot.compare([descent(), descent(0.001)]),
    "paths": lambda: plot.paths([descent(), descent(0.001)], minima=HIMMELBLAU.minima),
    "surface": lambda: plot.surface(descent(), minima=HIMMELBLAU.minima),
    "tangent": lambda: plot.tangent(lambda x: x**3, 10.0, h=3),
    "kink": lambda: plot.tangent(np.abs, 0.0, title=None, legend=True),
    "difference_error": lambda: plot.difference_error(np.sin, 1.0),
    "gradient_field": lambda: plot.gradient_field(lambda x: x[0] ** 2 + x[1] ** 2, (-2, 2), at=[1.0, 1.0]),
    "steepest": lambda: plot.gradient_field(lambda x: x[0] ** 6 + x[1] ** 6, (-9, 9), downhill=True),
    "rates": lambda: plot.rates(kb.find_lr(lambda x: np.sum(x**2), [-3.0, 4.0], "sgd")),
    "race": lambda: plot.race_page(raced()),
    "basins": lambda: plot.basins(
        kb.basins(HIMMELBLAU.f, HIMMELBLAU.bounds, optimizer=kb.SGD(0.03), resolution=20, steps=60)
    ),
    "shares": lambda: plot.shares(kb.multistart(HIMMELBLAU.f, HIMMELBLAU.bounds, starts=20, max_steps=5)),
    "theory": lambda: plot.theory(kb.minimize(lambda x: x[0] ** 2 + 5 * x[1] ** 2, [3.0, 1.0], lr=0.05).theory()),
    "schedules": lambda: plot.schedules(kb.schedules.constant(0.05)),
    "sweep": lambda: plot.sweep(kb.sweep(lambda x: x**2, {"lr": [0.01, 0.1, 0.9, 1.5]}, x0=1.0, max_steps=20)),
    "training": lambda: plot.training(*trained()),
    "gradient_norms": lambda: plot.gradient_norms(trained()[1]),
    "gradient_by_depth": lambda: plot.gradient_by_depth({"relu": trained()[1]}),
    "confusion": lambda: plot.confusion([0, 1, 1], [0, 1, 0]),
    "weights": lambda: plot.weights(trained()[0]),
    "activations": lambda: plot.activations(trained()[0], trained()[2]),
    "filters": lambda: plot.filters(np.eye(4), shape=(2, 2)),
}
# words that are code, in every language: names of arguments, of data and of what the user gave
CODE = {"lr", "gtol", "relu", "steps", "schedule", "constant", "cosine", "fun", "sgd", "adam"}
WARNINGS_OF_THE_LIBRARY = {"kink"}  # the picture shows what koubai.derivative warns of, which is English


def texts_of(picture):
    figure = picture if hasattr(picture, "savefig") else picture.get_figure()
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@needs_font
@pytest.mark.parametrize("name", PICTURES)
def test_every_label_is_japanese(name):
    with warnings.catch_warnings(), speaking("ja"):
        warnings.simplefilter("error")
        warnings.simplefilter("default", DeprecationWarning)  # older matplotlibs meet pyparsing's
        texts = texts_of(PICTURES[name]())
    pyplot.close("all")
    said = [re.sub(r"\$[^$]*\$", "", text.get_text()) for text in texts]  # less the powers of ten beside a scale
    assert any(re.search("[ぁ-んァ-ヴ一-龠]", text) for text in said)
    english = {word for text in said for word in re.findall(r"(?<![A-Za-z_])[a-z]{3,}(?![A-Za-z_(=])", text)} - CODE
    assert english == set() or name in WARNINGS_OF_THE_LIBRARY, english
    assert fonts.find_fonts(texts)


@pytest.mark.parametrize("name", ["path_2d", "convergence", "race", "training", "theory", "schedules", "surface"])
def test_labels_are_english_without_a_font(name, monkeypatch):
    monkeypatch.setattr(fonts, "_candidates", lambda: iter(["DejaVu Sans"]))
    with warnings.catch_warnings(), speaking("ja"):
        warnings.simplefilter("error")
        warnings.simplefilter("default", DeprecationWarning)  # older matplotlibs meet pyparsing's
        japanese = [text.get_text() for text in texts_of(PICTURES[name]())]
    with speaking("en"):
        english = [text.get_text() for text in texts_of(PICTURES[name]())]
    pyplot.close("all")
    assert japanese == english


@needs_font
def test_a_path_moves_with_japanese_titles(tmp_path):
    with speaking("ja"):
        assert plot.animate(descent(size=1), tmp_path / "path.gif").exists()
        assert raced().animate(tmp_path / "race.gif").exists()
        page = plot.animate(descent(size=1), tmp_path / "path.html").read_text(encoding="utf-8")
    assert '<html lang="ja">' in page
    assert "降下の経路" in page
    assert 'aria-label="一枚戻る"' in page
    assert not re.search("@[A-Z]+@", page)
    pyplot.close("all")


def test_the_catalogues_know_every_status_with_its_meaning():
    english = catalogue("en")
    for status in Status:
        assert english[f"meaning.{status.name}"] == status.meaning
        assert english[f"status.{status.name}"] == status.name.replace("_", " ")


def test_texts_for_one_have_a_text_for_many():
    for lang in LANGUAGES:
        texts = catalogue(lang)
        for name in texts:
            if name.endswith(".one"):
                assert name.removesuffix(".one") in texts


def test_no_text_of_the_catalogues_is_unused():
    """Every name of the parts that plot and the command line say stands in their source, in quotes."""
    root = Path(kb.__file__).parent
    source = "".join(path.read_text() for path in [*(root / "plot").glob("*.py"), root / "cli.py"])
    words = set(re.findall(r"[a-z_0-9A-Z]+", source))
    for name in catalogue("en"):
        group, _, rest = name.partition(".")
        if group in ("plot", "cli"):
            assert rest.removesuffix(".one") in words or re.match("(loss|accuracy|tangent|page)_", rest), name


def test_numbers_have_the_same_form_in_both_languages():
    """{count:,} in one and {count} in the other would be an oversight."""
    texts = [catalogue(lang) for lang in LANGUAGES]
    for name in texts[0]:
        forms = [sorted({(f, s) for _, f, s, _ in string.Formatter().parse(text[name]) if f}) for text in texts]
        assert forms[0] == forms[1], name
