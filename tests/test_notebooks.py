"""Every notebook runs from clean, and what is committed is such a run: complete, in order, with its pictures."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import get_kernel_spec
from nbclient import NotebookClient

pytestmark = pytest.mark.docs
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
ONE_MACHINE = re.compile(r"(?<![\w.])/(work|root|home|tmp|Users)/|[A-Z]:\\\\|tfevents\.\d")
MOST_BYTES = 600_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def sections(notebook):
    """{heading: its cells}, of the headings of second order."""
    found, cells = {}, []
    for cell in notebook.cells:
        heading = re.search(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            cells = found.setdefault(heading[1], [])
        cells.append(cell)
    return found


def has_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def kinds(cell):
    """What a cell put out: where it was written to, or as what it is shown."""
    return [output.get("name") or sorted(output.get("data", {})) or output.output_type for output in cell.outputs]


def texts(notebook):
    """Source and outputs, without the pictures."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            yield from (str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/"))


def assert_sound(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"], (
        "warnings are not shown to learners"
    )
    assert not [text for text in texts(notebook) if ONE_MACHINE.search(text)]
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert all(any(has_picture(cell) for cell in cells) for cells in sections(notebook).values())


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_what_is_committed_is_a_whole_run_from_clean(path):
    notebook = read(path)
    assert_sound(notebook)
    assert path.stat().st_size <= MOST_BYTES
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [cell for cell in notebook.cells if "execution" in cell.metadata], "times of execution change every time"


@each_notebook
def test_a_notebook_lists_its_sections_first(path):
    notebook = read(path)
    listed = re.findall(r"^(\d+)\. ", notebook.cells[0].source, re.MULTILINE)
    assert listed == [heading.split()[0] for heading in sections(notebook)]
    assert len(listed) >= 2


@each_notebook
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings(
    "ignore"
)  # of Jupyter's own parts in this process; those of the notebook would be on stderr
def test_a_notebook_runs_from_clean(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this Python's kernel, whatever the user has installed
    assert Path(get_kernel_spec("python3").resource_dir).is_relative_to(sys.prefix)
    committed, notebook = read(path), read(path)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(tmp_path)}}
    options = {"timeout": 300, "kernel_name": "python3", "coalesce_streams": True, "resources": resources}
    NotebookClient(notebook, **options).execute()
    assert_sound(notebook)
    assert [kinds(cell) for cell in code_cells(notebook)] == [kinds(cell) for cell in code_cells(committed)]
    assert list(tmp_path.iterdir()) == [], "a notebook leaves nothing behind"
