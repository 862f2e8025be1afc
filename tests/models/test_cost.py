from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from anomaly_u2net.errors import InputError
from anomaly_u2net.models import build_model, u2net, u2net_small, u2netp
from anomaly_u2net.models.blocks import upsample_to
from anomaly_u2net.models.cost import Cost, measure_cost, receptive_fields, stage_costs
from anomaly_u2net.recipe import ModelRecipe

# --- parameters, work and memory ------------------------------------------------------------


def test_one_convolution_by_hand() -> None:
    """5 × 5 from 3 to 8 channels, stride 2, on 10 × 20 pixels."""
    conv = nn.Conv2d(3, 8, 5, stride=2, padding=2)
    assert measure_cost(conv, size=(10, 20)) == Cost(
        parameters=8 * (3 * 25 + 1),
        gmac=8 * 3 * 25 * (5 * 10) / 1e9,
        activation_bytes=4 * 3 * 10 * 20,  # its input, for the gradient of its weights
    )


def test_a_chain_keeps_each_map_once() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),  # keeps the image
        nn.BatchNorm2d(4),  # keeps the convolution's output
        nn.ReLU(inplace=True),  # keeps its own output,
        nn.Conv2d(4, 2, 1),  # which is the same for this one
        nn.MaxPool2d(2),  # keeps its input and, as int64, where the maxima lay
    )
    cost = measure_cost(chain, size=(8, 8))
    assert cost.activation_bytes == 64 * (4 * 3 + 4 * 4 + 4 * 4 + 4 * 2) + 16 * 8 * 2
    assert round(cost.gmac * 1e9) == 64 * (4 * 3 * 9 + 2 * 4)
    assert cost.parameters == (4 * 27 + 4) + 2 * 4 + (2 * 4 + 2)


def saved_bytes(model: nn.Module, batch: Tensor) -> int:
    """What autograd keeps in a real step on the CPU: every address once, weights left out."""
    own = {p.data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model.train()(batch)
    return sum(size for size, _ in kept.values())


def test_memory_is_that_of_a_real_step() -> None:
    model = u2net_small(width=8, depth=3)
    real = saved_bytes(model, torch.randn(4, 3, 64, 48)) / 4
    counted = measure_cost(model, size=(64, 48)).activation_bytes
    assert counted == pytest.approx(real, rel=0.002)  # BatchNorm's means count for no image


@settings(deadline=None, max_examples=3)
@given(st.integers(1, 3), st.integers(1, 3))
def test_work_and_memory_grow_with_the_area(down: int, right: int) -> None:
    model = u2net_small(width=4, depth=2)
    one, many = (measure_cost(model, size=(32 * h, 32 * w)) for h, w in ((1, 1), (down, right)))
    assert many.gmac == pytest.approx(one.gmac * down * right)
    assert many.activation_bytes == one.activation_bytes * down * right
    assert many.parameters == one.parameters


def test_the_model_is_left_as_it_was() -> None:
    model = u2net_small(width=4, depth=2).train()
    before = copy.deepcopy(model.state_dict())
    stage_costs(model, size=(32, 32))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(("make", "parameters", "gmac"), [
    (u2net, 44_009_869, 58.6),
    (u2netp, 1_131_181, 19.8),
])  # fmt: skip
def test_the_papers_networks_at_320(make, parameters: int, gmac: float) -> None:  # type: ignore[no-untyped-def]
    cost = measure_cost(make())
    assert cost.parameters == parameters
    assert round(cost.gmac, 1) == gmac


def test_any_network_of_a_recipe_can_be_measured() -> None:
    dense, separable = (
        measure_cost(build_model(ModelRecipe(arch="small", block="dense", conv=conv)))
        for conv in ("standard", "separable")
    )
    assert separable.gmac < dense.gmac / 2
    assert separable.parameters < dense.parameters / 2


# --- receptive fields -----------------------------------------------------------------------


def conv(size: int = 3, **options: int) -> nn.Conv2d:
    options = {"padding": options.get("dilation", 1) * (size // 2)} | options
    return nn.Conv2d(1, 1, size, **options).double()  # type: ignore[arg-type]


def pool(size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, ceil_mode=True)


class Up(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return upsample_to(x, torch.zeros(1, 1, 1, x.shape[3] * 2))


@pytest.mark.parametrize(("layers", "field"), [
    ([conv()], 3),
    ([conv(), conv()], 5),
    ([conv(dilation=4)], 9),
    ([conv(dilation=2), conv()], 7),
    ([pool(2)], 2),
    ([pool(2), pool(2)], 4),
    ([conv(), pool(2), conv()], 8),  # 3 cells of 2 pixels, and one on either side
    ([conv(5, stride=2), conv()], 9),
    ([pool(2), Up()], 4),  # bilinear: the nearer cell and the next
    ([conv(), pool(2), Up()], 6),
    ([conv(), pool(2), Up(), conv()], 8),  # three neighbours touch three cells
    ([pool(8), nn.BatchNorm2d(1).double().eval(), nn.ReLU(), nn.Sigmoid(), conv()], 24),
])  # fmt: skip
def test_receptive_fields_by_hand(layers: list[nn.Module], field: int) -> None:
    chain = nn.Sequential(*layers)
    assert receptive_fields(lambda x: [chain(x)], in_channels=1, width=256) == [field]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.booleans()), max_size=4)
)
def test_chains_of_convolutions_and_halvings_follow_the_formula(
    layers: list[tuple[int, int, bool]],
) -> None:
    """Each layer adds (kernel − 1) × dilation × the stride so far (Araujo et al., Distill 2019)."""
    chain, field, stride = nn.Sequential(), 1, 1
    for size, dilation, halved in layers:
        chain.append(conv(size, dilation=dilation))
        field += (size - 1) * dilation * stride
        if halved:
            chain.append(pool(2))
            field, stride = field + stride, 2 * stride
    assert receptive_fields(lambda x: [chain(x)], in_channels=1) == [field]


def test_the_stages_fields_are_those_of_the_network_itself() -> None:
    """`stage_costs` looks at a copy with one channel everywhere; here at the real weights."""
    model = u2net_small(width=4, depth=3)
    double = copy.deepcopy(model).double().eval()
    stages = {s.name: s.receptive_field for s in stage_costs(model, size=(64, 64))}
    features = receptive_fields(double.features)
    assert features == [stages["De_1"], stages["De_2"], stages["En_3"]]


def test_a_field_wider_than_the_strip_is_refused() -> None:
    wide = conv(dilation=40)
    with pytest.raises(InputError, match="does not fit into 64 pixels: give more width"):
        receptive_fields(lambda x: [wide(x)], in_channels=1, width=64)
    with pytest.raises(
        InputError, match="expected maps whose stride divides 4, got 8 columns of 64"
    ):
        receptive_fields(lambda x: [pool(8)(x)], in_channels=1, width=64, period=4)
    with pytest.raises(InputError, match="does not fit"):
        receptive_fields(lambda x: [torch.zeros_like(x)], in_channels=1, width=64)


# --- stages ---------------------------------------------------------------------------------


def test_the_stages_add_up_to_the_whole() -> None:
    model = u2net_small(width=8, depth=4)
    stages, whole = stage_costs(model, size=(96, 64)), measure_cost(model, size=(96, 64))
    names = ["En_1", "En_2", "En_3", "En_4", "De_3", "De_2", "De_1", "outputs"]
    assert [s.name for s in stages] == names
    assert sum(s.parameters for s in stages) == whole.parameters
    assert sum(s.gmac for s in stages) == pytest.approx(whole.gmac)
    assert sum(s.activation_bytes for s in stages) == whole.activation_bytes
    assert all(s.activation_bytes > 0 and s.gmac > 0 for s in stages)


def test_what_a_stage_gets_and_gives() -> None:
    stages = {s.name: s for s in stage_costs(u2net_small(width=8, depth=3), size=(70, 64))}
    found = {n: (s.channels_in, s.channels_out, s.height, s.width) for n, s in stages.items()}
    assert found == {
        "En_1": (3, 8, 70, 64),
        "En_2": (8, 8, 35, 32),
        "En_3": (8, 8, 18, 16),
        "De_2": (16, 8, 35, 32),
        "De_1": (16, 8, 70, 64),
        "outputs": (24, 1, 70, 64),
    }
    fields = [s.receptive_field for s in stages.values()]
    assert fields == sorted(fields)


def test_a_network_on_a_shuffled_image_has_no_stage_table() -> None:
    model = build_model(ModelRecipe(arch="small", stem="unshuffle2"))
    with pytest.raises(InputError, match="expected a network with the stem full, got unshuffle2"):
        stage_costs(model)  # type: ignore[arg-type]
