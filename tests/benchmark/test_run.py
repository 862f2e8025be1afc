"""What happens to the errors of a cell, and to one that was begun."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from anomaly_u2net.benchmark import Failed, attempt
from anomaly_u2net.benchmark.cells import Cell
from anomaly_u2net.benchmark.run import is_begun
from anomaly_u2net.errors import InputError, MissingExtra, ModelFileError
from anomaly_u2net.files import sha256_file, write_json
from anomaly_u2net.models import packaged
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.training.run import check_settings


def test_errors_become_results(caplog: pytest.LogCaptureFixture) -> None:
    def ours() -> None:
        raise InputError("expected this, got that")

    def another() -> None:
        raise RuntimeError("out of memory")

    assert attempt("one", lambda: 3) == 3
    assert attempt("one", ours) == Failed("expected this, got that")
    assert caplog.records == []
    assert attempt("one", another) == Failed("RuntimeError: out of memory")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "one failed")
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stops_everything(error: type[BaseException]) -> None:
    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        attempt("one", interrupted)


def test_a_begun_cell_knows_its_weights(tiny_recipe: Recipe, tmp_path: Path) -> None:
    start, run = tmp_path / "start.pth", tmp_path / "run"
    start.write_bytes(b"one")
    recipe = tiny_recipe.with_overrides([f"model.init={start}"])
    cell = Cell("a", recipe)
    assert not is_begun(run, cell)
    (run / "checkpoints").mkdir(parents=True)
    recipe.save(run / "recipe.yaml")
    write_json(run / "environment.json", {"init_sha256": sha256_file(start)})
    start.write_bytes(b"two")
    assert is_begun(run, cell)  # nothing was trained yet, so nothing comes from the first file
    (run / "checkpoints" / "last.json").write_text("{}")
    with pytest.raises(InputError, match=r"start.pth is not the file that the run .* restore it"):
        is_begun(run, cell)
    write_json(run / "environment.json", {"init_sha256": None})
    assert is_begun(run, cell)
    (run / "environment.json").write_text('{"init_')
    with pytest.raises(InputError, match=r"environment.json: expected what the run was made on"):
        is_begun(run, cell)
    start.unlink()
    write_json(run / "environment.json", {"init_sha256": "0" * 64})
    assert is_begun(run, cell)


def test_weights_behind_a_variable_that_is_not_set(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run needs none; a new one says what is not set."""
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    recipe = tiny_recipe.with_overrides(["model.init=$NO_SUCH_PLACE/start.pth"])
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.json").write_text("{}")
    recipe.save(tmp_path / "recipe.yaml")
    write_json(tmp_path / "environment.json", {"init_sha256": "0" * 64})
    assert is_begun(tmp_path, Cell("a", recipe))
    with pytest.raises(ModelFileError, match=r"model\.init is '\$NO_SUCH_PLACE/.*give --init FILE"):
        check_settings(recipe)


def test_weights_of_a_package_that_is_gone(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe.with_overrides(["model.init=efficientnet-lite0"])
    monkeypatch.setitem(packaged.PACKAGES, "efficientnet-lite0", "no_such_package")
    with pytest.raises(MissingExtra):
        packaged.packaged_weights("efficientnet-lite0")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.json").write_text("{}")
    recipe.save(tmp_path / "recipe.yaml")
    write_json(tmp_path / "environment.json", {"init_sha256": "0" * 64})
    assert is_begun(tmp_path, Cell("a", recipe))  # what was measured stays so
