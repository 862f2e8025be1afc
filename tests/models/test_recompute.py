"""Stages that are computed again in the backward pass: the same results from less memory."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from anomaly_u2net.models import U2Net, build_model
from anomaly_u2net.models.blocks import RSU
from anomaly_u2net.models.recompute import kept_statistics, recomputed
from anomaly_u2net.models.u2net import NestedU
from anomaly_u2net.recipe import ModelRecipe

SMALL = ModelRecipe(arch="small", width=8, depth=3)


def network(recipe: ModelRecipe = SMALL, *, recompute: bool) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(recipe)
    for module in model.modules():
        if isinstance(module, NestedU):
            module.recompute = recompute
    return model


def three_steps(model: nn.Module) -> dict[str, Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        logits = model(torch.randn(2, 3, 40, 36, generator=generator))
        optimizer.zero_grad()
        sum(one.square().mean() for one in (logits.fused, *logits.sides)).backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize(
    "recipe",
    [SMALL, ModelRecipe(arch="unet", width=4, depth=3), ModelRecipe(arch="cascaded", width=4, depth=2)],
    ids=lambda recipe: recipe.arch,
)  # fmt: skip
def test_three_steps_give_the_same_weights_and_statistics(recipe: ModelRecipe) -> None:
    plain, again = (three_steps(network(recipe, recompute=on)) for on in (False, True))
    assert [key for key in plain if key.endswith("num_batches_tracked")]
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, atol=1e-6, rtol=0, msg=key)
        if key.endswith("num_batches_tracked"):
            assert value == 3


def test_only_inputs_of_the_stages_are_kept() -> None:
    def saved_bytes(model: nn.Module) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(torch.zeros(2, 3, 64, 64))
        assert logits.fused.requires_grad  # the graph, and with it the storages, lived until here
        return sum(storages.values())

    plain, again = (saved_bytes(network(recompute=on)) for on in (False, True))
    assert again < 0.3 * plain


def test_nothing_is_computed_again_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(recompute=True).eval()
    assert isinstance(model, U2Net)
    monkeypatch.setattr(sys.modules[NestedU.__module__], "recomputed", None)
    with_gradient = model(torch.zeros(1, 3, 32, 32)).fused
    assert with_gradient.requires_grad
    with torch.no_grad():
        model.train()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(TypeError, match="not callable"):
        model(torch.zeros(1, 3, 32, 32))


def test_gradients_by_an_independent_pass() -> None:
    torch.manual_seed(0)
    stage = RSU(4, 3, 4, 6)
    image = torch.randn(2, 3, 17, 19, requires_grad=True)
    weights = [image, *stage.parameters()]
    expected = torch.autograd.grad(stage(image).square().sum(), weights)
    found = torch.autograd.grad(recomputed(stage, image, stage=stage).square().sum(), weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_statistics_are_counted_again_after_an_error() -> None:
    layer = nn.BatchNorm2d(2, momentum=0.25)
    with pytest.raises(ValueError, match="expected 4D"), kept_statistics(layer):
        layer(torch.zeros(3))
    layer(torch.ones(2, 2, 4, 4))
    assert layer.num_batches_tracked == 1
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == [0.25, 0.25]
