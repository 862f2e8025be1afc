from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.files import sha256_file
from anomaly_u2net.inference.bundle import ModelSpec, read_spec, weight_file, write_spec
from anomaly_u2net.recipe import Recipe


def folder_with(tmp_path: Path, **files: bytes) -> Path:
    for kind, data in files.items():
        (tmp_path / f"model.{kind}").write_bytes(data)
    return tmp_path


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_there_and_back(tmp_path: Path, recipe: Recipe) -> None:
    folder = folder_with(tmp_path, safetensors=b"s", onnx=b"o", pkl=b"never")
    spec = write_spec(folder, recipe)
    assert read_spec(folder) == spec
    assert read_spec(str(folder)).digest == spec.digest
    assert spec.recipe_hash == recipe.digest
    assert (spec.name, spec.model, spec.input, spec.score) == (
        recipe.name,
        recipe.model,
        recipe.input,
        recipe.score,
    )
    assert spec.files == {
        "safetensors": ("model.safetensors", sha256_file(folder / "model.safetensors")),
        "onnx": ("model.onnx", sha256_file(folder / "model.onnx")),
    }
    assert weight_file(folder, spec, "onnx") == folder / "model.onnx"


def test_the_digest_names_weights_and_recipe_and_not_the_place(
    tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "a").mkdir()
    folder = folder_with(tmp_path / "a", onnx=b"o")
    spec = write_spec(folder, recipe)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert read_spec(tmp_path / "elsewhere").digest == spec.digest
    changed = write_spec(folder, recipe.with_overrides(["score.min_area=5"]))
    assert changed.digest != spec.digest
    folder_with(folder, onnx=b"p")
    assert write_spec(folder, recipe).digest != spec.digest


def test_an_altered_weight_file(tmp_path: Path, recipe: Recipe) -> None:
    folder = folder_with(tmp_path, onnx=b"weights")
    spec = write_spec(folder, recipe)
    folder_with(folder, onnx=b"weightz")
    with pytest.raises(
        ModelFileError, match=r"model\.onnx: altered or damaged: expected SHA-256 \w{12}….*copy"
    ):
        weight_file(folder, spec, "onnx")
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"the weight file that model\.json names is missing"):
        weight_file(folder, spec, "onnx")
    with pytest.raises(ModelFileError, match=r"no safetensors file; it has \['onnx'\]"):
        weight_file(folder, spec, "safetensors")


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "sub/a.onnx", ".."])
def test_a_weight_file_lies_in_the_folder(tmp_path: Path, recipe: Recipe, name: str) -> None:
    (tmp_path / "outside.onnx").write_bytes(b"o")
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "run" / "sub" / "a.onnx").write_bytes(b"o")
    folder = folder_with(tmp_path / "run", onnx=b"o")
    spec = write_spec(folder, recipe)
    edited(folder, files={"onnx": [name, spec.files["onnx"][1]]})
    with pytest.raises(ModelFileError, match="is missing"):
        weight_file(folder, read_spec(folder), "onnx")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model\.json here: expected the folder of a run"):
        read_spec(tmp_path)
    with pytest.raises(ModelFileError, match=r"\(there is no such folder\)"):
        read_spec(tmp_path / "gone")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(ModelFileError, match=r"model\.pkl: expected the folder .*never loaded"):
        read_spec(tmp_path / "model.pkl")


@pytest.mark.parametrize(("content", "text"), [
    (b"{", r"model\.json: not valid JSON"),
    (b"\xff", r"model\.json: not valid JSON"),
    (b"", r"model\.json: not valid JSON"),
    (b"[]", r"model\.json: top: Input should be a valid dictionary.*anomaly_u2net\.model/1"),
    (b"{}", r"model\.json: name: Field required"),
])  # fmt: skip
def test_a_damaged_description(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=text):
        read_spec(tmp_path)


@pytest.mark.parametrize(("changes", "text"), [
    ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ({"format": "anomaly_u2net.model/2"}, r"format: .* not a model of anomaly_u2net\.model/1"),
    ({"files": {"pickle": ["a.pkl", "0"]}}, r"files\.pickle.*'safetensors' or 'onnx'"),
    ({"files": {"onnx": "a"}}, r"files\.onnx: Input should be a valid tuple"),
    ({"input": {"size": [33, 32]}}, "input: .*multiples of 32"),
    ({"model": {"arch": "small", "wdth": 3}}, r"model\.wdth: Extra inputs"),
])  # fmt: skip
def test_an_unknown_description(
    tmp_path: Path, recipe: Recipe, changes: dict[str, Any], text: str
) -> None:
    write_spec(folder_with(tmp_path, onnx=b"o"), recipe)
    edited(tmp_path, **changes)
    with pytest.raises(ModelFileError, match=text):
        read_spec(tmp_path)


def test_a_description_is_frozen(tmp_path: Path, recipe: Recipe) -> None:
    spec: ModelSpec = write_spec(tmp_path, recipe)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "b"  # type: ignore[misc]
