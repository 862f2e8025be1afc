from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_u2net import resources
from anomaly_u2net.errors import AnomalyU2NetError


@pytest.mark.parametrize("kind", ["recipes", "datasets"])
def test_a_checkout_or_a_wheel_has_both_kinds(kind: str) -> None:
    assert resources.shipped(kind).is_dir()  # type: ignore[arg-type]


def test_an_installed_wheel_comes_before_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "anomaly_u2net"
    (package / "_shipped" / "datasets").mkdir(parents=True)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(resources, "PACKAGE", package)
    assert resources.shipped("datasets") == package / "_shipped" / "datasets"


def test_a_neighbour_package_named_datasets_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets").mkdir()
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "anomaly_u2net")
    with pytest.raises(AnomalyU2NetError, match=r"found neither.*reinstall anomaly_u2net"):
        resources.shipped("datasets")
