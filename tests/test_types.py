"""What type checkers see: the stub is up to date, a user's right file passes, and a wrong one fails line by line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stubs

ROOT = Path(__file__).parent.parent
USERS = ROOT / "tests" / "users"


def test_the_stub_is_up_to_date():
    assert stubs.STUB.read_text(encoding="utf-8") == stubs.text(), "run `python tests/stubs.py`"


def test_the_package_says_that_it_is_typed():
    """PEP 561. The wheel takes the whole folder, so that both files ship."""
    folder = stubs.STUB.parent
    assert (folder / "py.typed").is_file()
    assert f'packages = ["src/{folder.name}"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found():
    """What mypy, strict as pyproject.toml says, finds in the users' files: (file, line) → text."""
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--show-error-codes", str(USERS)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MYPYPATH": "src"}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    errors = re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {(Path(file).name, int(line)): text for file, line, text in errors if Path(file).parent.name == "users"}


@pytest.mark.slow
def test_a_right_program_passes(found):
    assert [text for (file, _), text in found.items() if file == "typed.py"] == []


@pytest.mark.slow
def test_every_mistake_is_found(found):
    lines = (USERS / "mistaken.py").read_text(encoding="utf-8").splitlines()
    wrong = {i: line for i, line in enumerate(lines, 1) if "  # " in line}
    assert {line for file, line in found if file == "mistaken.py"} == set(wrong)
    for i, line in wrong.items():
        code, word = re.search(r"# ([\w-]+): (.+)$", line).groups()
        assert any(
            f"[{known}]" in found["mistaken.py", i] for known in (code, "misc")
        )  # before mypy 1.20 some are misc
        assert word.strip('"') in found["mistaken.py", i]
