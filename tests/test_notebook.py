"""A notebook run to its end: every object shows itself, every figure is seen, progress is kept."""

from __future__ import annotations

import base64
import logging
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl._display import progress_bar, short
from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting import figures
from pynode_jl.reporting.notebook import figure, html
from pynode_jl.reporting.notebook._views import _short_digests
from pynode_jl.training import History

NOTEBOOK = Path(__file__).parent / "notebooks" / "shown.ipynb"


class Reader(HTMLParser):
    """Refuses tags that are not closed in turn, and what asks for scripts or the network."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "link", "iframe", "img")
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag not in ("br",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> str:
    """Return the text of a well-formed piece of HTML."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return " ".join(reader.text.split())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, 4)
    folder = tmp_path_factory.mktemp("notebook")
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    return list(notebook.cells)


def shown(cells: list[Any], kind: str) -> list[tuple[str, str]]:
    """The source and the output of each cell whose value has a form of that kind."""
    return [
        (cell.source, each.data[kind])
        for cell in cells
        for each in cell.outputs
        if each.output_type == "execute_result" and kind in each.data
    ]


@pytest.mark.slow
def test_a_notebook_shows_every_object_and_every_figure(outputs: list[Any]) -> None:
    cells = outputs
    assert not [each for cell in cells for each in cell.outputs if each.output_type == "stream"]
    last = [cell.source.splitlines()[-1] for cell in cells]
    pictures, pages = shown(cells, "image/png"), shown(cells, "text/html")
    plots = [line for line in last if ".plot(" in line]
    assert [source.splitlines()[-1] for source, _ in pictures] == plots
    for _, picture in pictures:
        png = base64.b64decode(picture)
        width, height = struct.unpack(">II", png[16:24])
        assert width > 400
        assert height > 200
    objects = [line for line in last if ".plot(" not in line]
    assert [source.splitlines()[-1] for source, _ in pages] == objects
    texts = {source.splitlines()[-1]: read(page) for source, page in pages}
    assert "300 to train, 200 to test" in texts["data"]
    assert "Euler h=1/2" in texts["solver"]
    assert "300 of 300" in texts["trained"]
    assert "RK4 h=1/2" in texts["report"]
    assert "folds" in texts["certificate"]
    assert "small" in texts["run"]


def test_a_recipe_shows_itself_and_optimisers_leave_out_their_defaults() -> None:
    recipe = pn.Recipe("Euler:dt=1/2", iterations=2000, optimizer=pn.Adam(1e-2))
    assert repr(recipe.optimizer) == "Adam(learning_rate=0.01)"
    shown = read(html(recipe))
    assert shown.startswith("Recipe with Euler h=1/2")
    assert "2,000" in shown


def test_a_digest_in_a_view_is_its_beginning() -> None:
    """All of it says nothing more, and is wider than a phone."""
    assert _short_digests(f"own, 30 test samples, {'0a' * 32}, x") == (
        f"own, 30 test samples, {'0a' * 6}\u2026, x"
    )


@pytest.mark.slow
def test_progress_is_kept_in_the_notebook(outputs: list[Any]) -> None:
    """One output for each training, swap, certificate and matrix, which stands at its end."""
    bars = [
        each.data["text/html"]
        for cell in outputs
        for each in cell.outputs
        if each.output_type == "display_data" and "<progress" in each.data.get("text/html", "")
    ]
    names = [re.findall(r"<div>([\w ]+) <progress", bar)[0] for bar in bars]
    assert names == ["train", "swap", "certify", "swap matrix"]
    for bar in bars:
        done, of = re.findall(r'value="(\d+)" max="(\d+)"', bar)[0]
        assert done == of != "0"


def test_a_view_escapes_what_users_named() -> None:
    x = np.eye(4)
    hostile = "<script>alert(1)</script>"
    data = pn.Dataset.from_arrays(x, [hostile, "b"] * 2, test_fraction=0.5, name=hostile)
    page = html(data)
    assert "<script" not in page
    assert hostile in read(page)


def test_objects_without_a_view_show_their_repr() -> None:
    assert "3" in read(html(3))
    with pytest.raises(InvalidValueError, match="has a figure"):
        figure(3)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="no iteration"):
        History().plot()
    deep = pn.Model(pn.MLP(3, width=4), classes=2)
    trained = pn.TrainedModel(deep, deep.init(0), "Euler:dt=1/2")
    data = pn.Dataset.from_arrays(np.eye(3).repeat(4, 0), [0, 1] * 6)
    with pytest.raises(InvalidValueError, match="two numbers"):
        trained.plot(data)


def test_every_figure_of_the_package_shows_itself() -> None:
    """Without pyplot matplotlib shows none: what makes figures must make this kind."""
    for path in Path(figures.__file__).parent.glob("*.py"):
        made = re.findall(r"(?<![\w.])Figure\(", path.read_text(encoding="utf-8"))
        assert path.name in ("_style.py", "_described.py") or not made, path.name
    drawn = History(*(np.full(3, each) for each in (0.5, 0.9, 2, 0.5))).plot()
    png, size = drawn._repr_png_()  # type: ignore[attr-defined]
    width, _ = struct.unpack(">II", png[16:24])
    assert width == pytest.approx(size["width"] * 160 / 96, abs=2)
    assert "loss" in size["alt"]


def test_reprs_are_short_and_say_what_matters() -> None:
    model = pn.Model(pn.MLP(2), classes=2)
    trained = pn.TrainedModel(model, model.init(0), "Euler:dt=1/8")
    assert repr(pn.Solver("Euler", dt=0.5)) == "Solver(name='Euler', dt=0.5)"
    assert eval(repr(pn.Solver("Tsit5")), {"Solver": pn.Solver}) == pn.Solver("Tsit5")
    for value in (model, trained, pn.Recipe("Euler:dt=1/2", optimizer=pn.SGD()), History()):
        assert len(repr(value)) < 300
        assert "array([" not in repr(value)
    assert "Euler h=1/8" in repr(trained)
    assert short(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, …]"


def test_a_bar_shows_only_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", None) as advance:
        assert advance is None  # no notebook
    with progress_bar("train", True) as advance:
        assert advance is not None
        advance(3, 10, "loss 0.5")
    told = capsys.readouterr()
    assert not told.out
    assert "train" in told.err
    with pytest.raises(InvalidValueError, match="progress = 'yes'"), progress_bar("x", "yes"):  # type: ignore[arg-type]
        pass


def test_trainings_and_swaps_are_logged_under_the_name_of_the_package(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = pn.moons(n_train=32, n_test=16)
    model = pn.Model(pn.LinearField(2), classes=2)
    recipe = pn.Recipe("Euler:dt=1", iterations=2, batch_size=16)
    with caplog.at_level(logging.DEBUG, "pynode_jl"):
        pn.train(model, data, recipe, backend="jax")
    assert {each.name.split(".")[0] for each in caplog.records} == {"pynode_jl"}
    assert "train with Euler h=1 on moons: 2 iterations" in caplog.text
    assert "iteration 2 of 2" in caplog.text
    assert any(
        isinstance(each, logging.NullHandler) for each in logging.getLogger("pynode_jl").handlers
    )
