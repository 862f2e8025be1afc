"""Warm starts of networks that work at half the image's size, and of the cut of U²-Net†."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.models import (
    U2Net,
    build_model,
    load_weights,
    save_weights,
    u2net_fast,
    u2netp,
)
from anomaly_u2net.models.u2net import FAST, small_stages
from anomaly_u2net.models.weights import to_authors_keys
from anomaly_u2net.recipe import ModelRecipe


@pytest.mark.parametrize("stem", ["unshuffle2", "unshuffle2_learned"])
def test_a_network_at_half_size_takes_the_weights_of_a_whole_one(
    stem: Literal["unshuffle2", "unshuffle2_learned"], tmp_path: Path
) -> None:
    """Its outputs are those of the whole network on the image averaged over 2 × 2 pixels."""
    torch.manual_seed(0)
    whole = build_model(ModelRecipe(arch="small", width=4, depth=3)).eval()
    save_weights(whole, tmp_path / "whole.safetensors")
    half = build_model(ModelRecipe(arch="small", width=4, depth=3, stem=stem)).eval()
    load_weights(half, tmp_path / "whole.safetensors")
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = whole(F.avg_pool2d(x, 2)), half(x)
    for mine, theirs in zip(found.native, expected.native, strict=True):
        if stem == "unshuffle2_learned":
            theirs = F.interpolate(theirs, scale_factor=2.0)
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    if stem == "unshuffle2_learned":  # the other resizes each side straight to the whole size
        fused = F.interpolate(expected.fused, scale_factor=2.0)
        torch.testing.assert_close(found.fused, fused, rtol=1e-5, atol=1e-5)


def assert_same_as_in_u2netp(model: U2Net, source: U2Net) -> None:
    """Stage by stage, ``model``, a cut with a full stem, computes what ``source`` does."""
    pairs = [(model.encoder[new], source.encoder[old]) for new, old in enumerate(FAST)]
    pairs += [
        (model.decoder[2 - new], source.decoder[4 - old]) for new, old in enumerate(FAST[:-1])
    ]
    pairs += [(model.sides[new], source.sides[old]) for new, old in enumerate(FAST)]
    for mine, theirs in pairs:
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[key], value, rtol=0, atol=0)
    assert model.fuse is not None
    assert source.fuse is not None
    torch.testing.assert_close(model.fuse.weight, source.fuse.weight[:, list(FAST)])


def cut_with_a_full_stem() -> U2Net:
    encoder, _ = small_stages(width=64, mid=16, depth=6)
    encoder = [encoder[k] for k in FAST]
    return U2Net(encoder, encoder[-2::-1], upsample="nearest", taken=FAST)


def test_a_cut_takes_its_stages_from_u2netp(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = u2netp()
    save_weights(source, tmp_path / "p.safetensors")
    assert_same_as_in_u2netp(
        load_weights(cut_with_a_full_stem(), tmp_path / "p.safetensors"), source
    )


def test_the_fast_network_is_the_cut_one_on_the_averaged_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_weights(u2netp(), tmp_path / "p.safetensors")
    cut = load_weights(cut_with_a_full_stem(), tmp_path / "p.safetensors").eval()
    fast = load_weights(u2net_fast(), tmp_path / "p.safetensors").eval()
    x = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        expected, found = cut(F.avg_pool2d(x, 2)), fast(x)
    assert expected.fused.std() > 0.005
    for mine, theirs in zip(
        (found.fused, *found.sides), (expected.fused, *expected.sides), strict=True
    ):
        each_for_four = F.interpolate(theirs, scale_factor=2.0)
        torch.testing.assert_close(mine, each_for_four, rtol=1e-4, atol=1e-5)


def test_the_authors_file_starts_the_fast_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = u2netp()
    torch.save(to_authors_keys(source.state_dict(), source), tmp_path / "u2netp.pth")
    assert_same_as_in_u2netp(load_weights(cut_with_a_full_stem(), tmp_path / "u2netp.pth"), source)
    save_weights(source, tmp_path / "p.safetensors")
    expected = load_weights(u2net_fast(), tmp_path / "p.safetensors").state_dict()
    found = load_weights(u2net_fast(), tmp_path / "u2netp.pth").state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ({"fuse": "mean"}, {}, r"2 keys missing, the first is 'fuse\.weight'"),
        ({}, {"fuse": "mean"}, r"2 keys unknown, the first is 'fuse\.weight'"),
        ({"deep_supervision": "none"}, {}, r"keys missing, the first is 'sides\.1\.weight'"),
        ({}, {"deep_supervision": "none"}, r"8 keys unknown, the first is 'sides\.1\.bias'"),
    ],
)
def test_other_outputs_than_the_files_are_refused(
    source: dict[str, Any], target: dict[str, Any], text: str, tmp_path: Path
) -> None:
    save_weights(build_model(ModelRecipe(arch="u2netp", **source)), tmp_path / "p.safetensors")
    model = build_model(ModelRecipe(arch="u2net_fast", **target))
    hint = r": check model\.arch, block, .*, fuse and deep_supervision$"
    with pytest.raises(ModelFileError, match=text + hint):
        load_weights(model, tmp_path / "p.safetensors")


@pytest.mark.parametrize("arch", ["u2netp", "u2net_fast"])
@pytest.mark.parametrize("heads", [{"fuse": "mean"}, {"deep_supervision": "none"}], ids=str)
def test_a_network_with_fewer_outputs_leaves_the_others_out(
    arch: str, heads: dict[str, Any], tmp_path: Path
) -> None:
    """So a comparison of supervisions can start all of them from the same weights."""
    torch.manual_seed(0)
    whole = build_model(ModelRecipe(arch="u2netp"))
    save_weights(whole, tmp_path / "p.safetensors")
    expected = load_weights(build_model(ModelRecipe(arch=arch)), tmp_path / "p.safetensors")
    model = build_model(ModelRecipe(arch=arch, **heads))
    load_weights(model, tmp_path / "p.safetensors", start=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key]), key
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        sides = expected.eval()(x).sides
        mean_or_finest = torch.stack(sides).mean(dim=0) if "fuse" in heads else sides[0]
        torch.testing.assert_close(model.eval()(x).fused, mean_or_finest)


def test_the_mean_fusion_starts_from_a_file_with_one(tmp_path: Path) -> None:
    source = build_model(ModelRecipe(arch="u2netp", fuse="mean"))
    save_weights(source, tmp_path / "p.safetensors")
    model = build_model(ModelRecipe(arch="u2net_fast", fuse="mean"))
    load_weights(model, tmp_path / "p.safetensors")
    torch.testing.assert_close(
        model.state_dict()["sides.3.bias"], source.state_dict()["sides.4.bias"].repeat(4)
    )


def test_the_fast_network_reads_its_own_weights_back(tmp_path: Path) -> None:
    model = u2net_fast().eval()
    save_weights(model, tmp_path / "fast.safetensors")
    again = load_weights(u2net_fast(), tmp_path / "fast.safetensors").eval()
    x = torch.randn(1, 3, 65, 70)
    with torch.no_grad():
        assert torch.equal(again(x).fused, model(x).fused)
        assert model(x).fused.shape == (1, 1, 65, 70)


def test_weights_of_u2netp_do_not_fit_a_cut_of_another_shape(tmp_path: Path) -> None:
    save_weights(u2netp(), tmp_path / "p.safetensors")
    model = build_model(ModelRecipe(arch="small", width=64, mid=16, depth=4))
    with pytest.raises(ModelFileError, match=r"does not fit the model: \d+ keys unknown"):
        load_weights(model, tmp_path / "p.safetensors")


def test_the_public_weights_start_the_fast_network(public_onnx: Path) -> None:
    assert_same_as_in_u2netp(
        load_weights(cut_with_a_full_stem(), public_onnx), load_weights(u2netp(), public_onnx)
    )
    load_weights(u2net_fast(), public_onnx)
    half = load_weights(
        build_model(ModelRecipe(arch="u2netp", stem="unshuffle2_learned")), public_onnx
    ).eval()
    x = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        expected = load_weights(u2netp(), public_onnx).eval()(F.avg_pool2d(x, 2)).fused
        found = half(x).fused
    torch.testing.assert_close(
        found, F.interpolate(expected, scale_factor=2.0), rtol=1e-3, atol=1e-3
    )
