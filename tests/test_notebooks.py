"""The notebooks run from top to bottom, with their pictures inline (mission row P2)."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what Jupyter's own packages warn about is not ours
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.versions] * (path == NOTEBOOKS[0])) for path in NOTEBOOKS],
)
def test_the_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    pictures = [count_pictures(cell) for cell in notebook.cells]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [count_pictures(cell) for cell in notebook.cells] == pictures
    assert sum(pictures) > 0
    warned = [o.text for cell in notebook.cells for o in cell.get("outputs", ()) if o.get("name") == "stderr"]
    assert [text for text in warned if "DeprecationWarning" not in text and "FutureWarning" not in text] == []


def count_pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
