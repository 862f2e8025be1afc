"""The package as a whole: its public names, what importing it costs, what a wheel holds."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import anomaly_u2net

ROOT = Path(__file__).parents[1]
HEAVY = ["cv2", "lightning", "numpy", "onnxruntime", "pandas", "pyarrow", "pydantic", "rich",
         "skimage", "torch", "torchvision", "yaml"]  # fmt: skip

#: Makes ``import torch`` (and what needs it) fail as on a line computer without the extra.
NO_TORCH = """
    import sys

    class NoTorch:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("torch", "torchvision", "lightning", "safetensors"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, NoTorch())
"""


def python(script: str, *arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env=env, timeout=120, check=False, capture_output=True, text=True,
    )  # fmt: skip


def loaded(script: str, *, env: dict[str, str]) -> set[str]:
    """The heavy packages that are loaded once ``script`` has run."""
    end = "\nimport json, sys\nprint(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = python(textwrap.dedent(script) + end, env=env)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY)


def test_public_names() -> None:
    assert anomaly_u2net.__all__ == [
        "Calibration",
        "Recipe",
        "Segmenter",
        "U2Net",
        "calibrate",
        "evaluate",
        "index_dataset",
        "score_line",
        "train",
        "write_demo",
    ]
    assert sorted(anomaly_u2net._PUBLIC) == anomaly_u2net.__all__
    assert set(anomaly_u2net.__all__) < set(dir(anomaly_u2net))
    for name in anomaly_u2net.__all__:
        found = getattr(anomaly_u2net, name)
        assert (found.__name__, callable(found)) == (name, True)
        assert found.__doc__, name


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'anomaly_u2net' has no attribute 'Trainer'"):
        _ = anomaly_u2net.Trainer


def test_importing_the_package_loads_nothing_heavy(single_thread: dict[str, str]) -> None:
    assert loaded("import anomaly_u2net", env=single_thread) == set()


def test_help_loads_nothing_heavy(single_thread: dict[str, str]) -> None:
    script = """
        from anomaly_u2net.cli.main import main
        for arguments in (["--help"], ["train", "--help"], ["score", "--help"]):
            try:
                main(arguments)
            except SystemExit as end:
                assert end.code == 0
    """
    found = loaded(script, env=single_thread)
    # pydantic comes with the parser of recent typer.
    assert not found & {"cv2", "lightning", "numpy", "onnxruntime", "pyarrow", "torch", "yaml"}


@pytest.mark.parametrize("room", ["metrics", "calibration", "scoring", "visual", "evaluation"])
def test_rooms_of_a_line_computer_load_no_torch(room: str, single_thread: dict[str, str]) -> None:
    found = loaded(f"import anomaly_u2net.{room}", env=single_thread)
    assert not found & {"torch", "torchvision", "lightning"}


def test_scoring_without_torch(
    calibrated_run: Path, tiny_data: Path, tmp_path: Path, single_thread: dict[str, str]
) -> None:
    script = (
        NO_TORCH
        + """
    from anomaly_u2net.cli.main import main
    main(sys.argv[1:])
    """
    )
    images = tiny_data / "plate" / "validation" / "good"
    options = ["--out", tmp_path / "out", "--json", "--overlays"]
    done = python(script, "score", calibrated_run, images, *options, env=single_thread)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["ok"] == 4
    done = python(script, "evaluate", calibrated_run, "--out", tmp_path / "e", env=single_thread)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "verb", [["train", "demo"], ["score", "RUN", "a.png", "--out", "o", "--backend", "torch"]]
)
def test_what_needs_torch_says_what_to_install(
    calibrated_run: Path, verb: list[str], single_thread: dict[str, str]
) -> None:
    script = (
        NO_TORCH
        + """
    from anomaly_u2net.cli.main import main
    main(sys.argv[1:])
    """
    )
    arguments = [calibrated_run if word == "RUN" else word for word in verb]
    done = python(script, *arguments, env=single_thread)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "anomaly-u2net: torch is not installed: pip install 'anomaly_u2net[train]'\n"
    )


def test_the_wheel_holds_recipes_and_cards(tmp_path: Path, single_thread: dict[str, str]) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    script = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        cwd=ROOT, env=single_thread, timeout=120, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for kind in ("recipes", "datasets"):
        for path in (ROOT / kind).rglob("*.yaml"):
            assert f"anomaly_u2net/_shipped/{kind}/{path.relative_to(ROOT / kind)}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"anomaly_u2net", f"anomaly_u2net-{anomaly_u2net.__version__}.dist-info"}
    assert not [name for name in names if "test" in Path(name).name]
