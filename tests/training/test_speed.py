"""What makes a step faster or smaller, and that it changes nothing else."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from anomaly_u2net.errors import RecipeError
from anomaly_u2net.models import u2net_small
from anomaly_u2net.recipe import Recipe, TrainRecipe
from anomaly_u2net.training import train
from anomaly_u2net.training.module import TrainingModule
from anomaly_u2net.training.speed import MALLOPT, channels_last, keep_freed_memory, precision

GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark, whose parts are tried here and whose clock is not."""
    path = Path(__file__).parents[1] / "benchmarks" / "bench_training.py"
    spec = importlib.util.spec_from_file_location("bench_training", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- memory that comes back


@pytest.mark.skipif(not GLIBC, reason="the allocator is that of glibc")
def test_freed_memory_is_used_again(single_thread: dict[str, str]) -> None:
    """Page faults of taking and freeing 64 MiB, which are 16 384 pages, eight times."""
    script = """
        import resource
        import torch
        from anomaly_u2net.training.speed import keep_freed_memory

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(8):
                torch.ones(2**24)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        faults()
        print(faults(), keep_freed_memory(), faults() and faults())
    """
    clean = {key: value for key, value in single_thread.items() if key not in MALLOPT.values()}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=clean, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    before, kept, after = done.stdout.split()
    assert kept == "True"
    assert int(after) < int(before) / 10


@pytest.mark.parametrize("name", MALLOPT.values())
def test_settings_of_the_environment_win(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1000000")
    monkeypatch.setattr(ctypes, "CDLL", None)  # would be a TypeError
    assert keep_freed_memory() is False


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert keep_freed_memory() is False


def test_an_allocator_that_refuses_is_noted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in MALLOPT.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    refusing = SimpleNamespace(mallopt=lambda option, value: int(option == -1))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: refusing)
    with caplog.at_level(logging.INFO):
        assert keep_freed_memory() is False
    assert "the allocator refused MALLOC_MMAP_THRESHOLD_: training goes on" in caplog.text


# --- layout


def test_channels_last_changes_the_layout_and_not_the_output() -> None:
    model = u2net_small(width=8, depth=3).eval()
    image = torch.randn(2, 3, 40, 36)
    with torch.no_grad():
        before = model(image)
        channels_last(model)
        after = model(image)
    weight = model.encoder[0].entry.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    for one, other in zip((after.fused, *after.sides), (before.fused, *before.sides), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_training_is_channels_last_and_averages_in_it() -> None:
    module = TrainingModule(u2net_small(width=8, depth=2), Recipe.from_dict({"name": "r"}))
    assert module.average is not None
    for model in (module.model, module.average):
        weight = dict(model.named_parameters())["encoder.0.entry.conv.weight"]
        assert weight.is_contiguous(memory_format=torch.channels_last)


# --- precision and optimiser


@pytest.mark.parametrize(
    ("cuda", "gpu_multiplies", "capabilities", "accelerator", "expected"),
    [
        (False, False, {}, "auto", "fp32"),
        (False, False, {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "auto", "fp32"),
        (False, False, {"amx_bf16": True}, "auto", "bf16"),
        (False, False, {"avx512_bf16": True, "amx_bf16": False}, "auto", "bf16"),
        (True, True, {}, "auto", "bf16"),
        (True, False, {"amx_bf16": True}, "auto", "fp32"),
        (True, True, {}, "cpu", "fp32"),
    ],
)
def test_automatic_precision(
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool,
    gpu_multiplies: bool,
    capabilities: dict[str, bool],
    accelerator: str,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation: gpu_multiplies or including_emulation,
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    settings = TrainRecipe(precision="auto", accelerator=accelerator)
    assert precision(settings) == expected
    assert precision(TrainRecipe(precision="fp16")) == "fp16"


def test_an_older_torch_that_does_not_say_means_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision(TrainRecipe(precision="auto", accelerator="cpu")) == "fp32"


def test_this_cpu_answers() -> None:
    settings = TrainRecipe(precision="auto", accelerator="cpu")
    assert precision(settings) in ("fp32", "bf16")


@pytest.mark.parametrize(("name", "fused"), [("fp32", True), ("bf16", False)])
def test_the_optimiser_is_fused_where_gradients_can_still_be_clipped(
    name: str, fused: bool
) -> None:
    recipe = Recipe.from_dict({"name": "r", "train": {"precision": name}})
    module = TrainingModule(u2net_small(width=4, depth=2), recipe)
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert group["fused"] is fused


@pytest.mark.usefixtures("quick_export")
def test_mixed_precision_trains_with_clipped_gradients(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tiny_recipe.with_overrides(["train.precision=bf16", "train.clip=0.5"])
    result = train(recipe.with_overrides(["train.steps=2"]), tmp_path / "run")
    assert result.steps == 2


# --- checkpointing


@pytest.mark.usefixtures("quick_export")
def test_checkpoint_trains_the_same_weights(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """As close as rounding lets Adam be: without its division a step would differ by 1e-9."""
    short = tiny_recipe.with_overrides(["train.steps=3", "train.lr=0.001"])
    states = []
    for on in ("false", "true"):
        folder = train(short.with_overrides([f"train.checkpoint={on}"]), tmp_path / on).folder
        states.append(load_file(folder / "model.safetensors"))
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, atol=1e-6, rtol=1e-6, msg=key)


@pytest.mark.parametrize("arch", ["hed", "dilated", "bidirectional", "smp/unet-resnet18"])
def test_checkpoint_needs_stages(arch: str) -> None:
    text = rf"train.checkpoint expects .* u2net, u2netp, u2net_fast, small, unet, cascaded, got {arch}: set"
    with pytest.raises(RecipeError, match=text):
        Recipe.from_dict({"name": "a", "model": {"arch": arch}, "train": {"checkpoint": True}})


def test_checkpoint_lowers_the_peak_by_a_quarter(bench: ModuleType) -> None:
    recipe = Recipe.from_dict({"name": "r", "model": {"arch": "small", "width": 16, "depth": 4}})
    peaks = []
    for on in ("false", "true"):
        torch.manual_seed(0)
        model = u2net_small(width=16, depth=4)
        module = TrainingModule(model, recipe.with_overrides([f"train.checkpoint={on}"]))
        batch = bench.make_batch(0, count=2, side=64, device="cpu")
        step: Callable[[], None] = lambda m=module, b=batch: m.training_step(b, 0).backward()  # noqa: E731
        peaks.append(bench.peak_bytes(step, "cpu"))
    assert peaks[1] < 0.75 * peaks[0]


# --- the benchmark


def test_peak_bytes_by_hand(bench: ModuleType) -> None:
    before = torch.zeros(1000)
    with bench.PeakBytes() as meter:
        a = before + 1  # 4000 bytes
        b = a * 2  # 4000 more
        assert meter.live == 8000
        del b
        a.add_(1)  # in place: nothing new
        view = a[:10]  # nor here
        assert meter.live == 4000
    assert meter.peak == 8000
    assert view.shape == (10,)


def test_the_public_loop_and_ours_learn_the_same(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "LOSS_STEPS", 3)
    public, ours = bench.compare_losses("cpu", torch.float64)
    assert ours == pytest.approx(public, rel=1e-9)
    assert ours[-1] < ours[0]
