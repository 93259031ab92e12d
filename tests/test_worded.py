"""What is worded deep inside: every sentence has its translation, and is told in the language of those who read."""

import ast
import importlib
import pickle
import re
import string
from pathlib import Path

import pytest

import koubai as kb
from koubai.errors import ExpressionError, InputError
from koubai.messages import LANGUAGES, Worded, reason, speaking, told, translations, worded

SRC = Path(kb.__file__).parent
MAKERS = ("worded", "refused", "_refused")
OTHERS = [lang for lang in LANGUAGES if lang != "en"]


def templates():
    """Return the first argument of every call of worded and refused in the code, and where it stands."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        module = ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                first = node.args[0]
                if isinstance(first, ast.Name) and first.id == "template":
                    continue  # of refused itself
                # a literal, or a constant of its module
                text = (
                    first.value
                    if isinstance(first, ast.Constant)
                    else getattr(importlib.import_module(module), first.id)
                )
                found[text] = f"{path.name}:{node.lineno}"
    return found


def places(template):
    return {(name, spec, how) for _, name, spec, how in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("lang", OTHERS)
def test_every_sentence_is_translated_and_nothing_is_left_over(lang):
    known = translations(lang)
    assert {text: at for text, at in templates().items() if text not in known} == {}
    assert set(known) - set(templates()) == set()
    for english, own in known.items():
        # "1 variable" has no place for a number, and neither has its translation
        assert places(english) == places(own), english
        assert own.strip()


def test_japanese_is_japanese():
    for english, own in translations("ja").items():
        words = re.sub(r"[{][^}]*[}]|[a-z_]+[.(][^ ]*|optimizer=\S+", "", english)
        if re.search(r"[a-z]{4}", words):
            assert re.search(r"[ぁ-んァ-ヶ一-龠]", own), own
        # no stops of another script, code apart
        assert not re.search(r"[ぁ-んァ-ヶ一-龠][,;:]", re.sub(r"[(].*?[)]", "", own)), own


def test_a_sentence_is_english_and_told_in_another_language():
    inner = worded("gtol is off")
    sentence = worded("largest |gradient| {g:.3g}, {limit}", g=0.25, limit=inner)
    assert sentence == str(sentence) == told(sentence, "en") == "largest |gradient| 0.25, gtol is off"
    assert told(sentence, "ja") == "勾配の最大成分 0.25、gtol は無効"
    again = pickle.loads(pickle.dumps(sentence))
    assert (again, told(again, "ja")) == (sentence, told(sentence, "ja"))
    with speaking("ja"):
        assert told(sentence) == told(sentence, "ja")
    assert told("what has no translation {x}", "ja") == "what has no translation {x}"
    assert told(worded("never worded in koubai"), "ja") == "never worded in koubai"
    assert told(InputError(inner), "ja") == "gtol は無効"
    assert told(InputError("plain"), "ja") == told(ValueError("plain"), "ja") == "plain"
    assert told(OSError(2, "gone"), "ja") == "[Errno 2] gone"


RUNS = {
    "converged": {"lr": 0.1},
    "max_steps": {"lr": 0.1, "max_steps": 3},
    "diverged": {"lr": 10.0},
    "target_reached": {"lr": 0.1, "target": 1e-3},
    "stalled": {"lr": 1e-30, "max_steps": 50},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_tells_why_it_stopped_in_both_languages(name):
    run = kb.minimize(kb.parse("x**2 + y**2"), [1.0, 2.0], **RUNS[name])
    assert run.status.name == name
    assert isinstance(run.message, Worded)
    assert run.message.isascii() or "≤" in run.message or "×" in run.message
    with speaking("ja"):
        assert run.message == str(run.message)  # the attribute is English whatever is spoken
        assert reason(name, run.message) == told(run.message, "ja")
    assert re.search("[ぁ-ん]", told(run.message, "ja"))
    assert "{" not in told(run.message, "ja")
    # the numbers are the same
    assert sorted(re.findall(r"\d+(?:\.\d+)?(?:e[-+]\d+)?", told(run.message, "ja"))) == sorted(
        re.findall(r"\d+(?:\.\d+)?(?:e[-+]\d+)?", run.message)
    )


def test_a_run_of_a_file_has_what_its_status_means(tmp_path):
    run = kb.minimize(kb.parse("x**2 + y**2"), [1.0, 2.0], lr=0.1)
    run.save(tmp_path / "run.npz")
    loaded = kb.load(tmp_path / "run.npz")
    assert loaded.message == run.message
    assert reason("converged", loaded.message, "ja") == "停止条件を満たしました"
    assert reason("converged", loaded.message, "en") == run.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x^2", "'x^2' の 2 文字目 '^'：この文字（U+005E）は数式に使えません。べき乗は ** と書いてください"),
        ("x + (y", "'x + (y' の 5 文字目 '('：この括弧が閉じていません。) を補ってください"),
        ("foo(x)", "'foo' という関数はありません"),
        ("", "数式が空です"),
        ("3", "'3' には変数がなく"),
        ("x + x1", "x と x1 の両方があり"),
        ("where(x, 1, 2)", "where の最初の引数は比較"),
    ],
)
def test_a_text_that_can_not_be_parsed_is_told_in_japanese(text, said):
    with pytest.raises(ExpressionError) as caught:
        kb.parse(text)
    assert said in told(caught.value, "ja")
    assert not re.search("[ぁ-ん]", str(caught.value))  # an exception is English


def test_a_race_is_told_in_both_languages():
    found = kb.race(lambda x: x @ x, [1.0, 2.0], ["sgd", "adam"], budget=60, lr="given")
    assert repr(found) == found.told("en")
    japanese = found.told("ja").splitlines()
    assert japanese[0].split() == ["lr", "調整", "評価回数", "最小の", "f", "到達率", "ms"]
    assert "評価は各 60 回" in japanese[-1]
    assert len(japanese) == len(repr(found).splitlines())
