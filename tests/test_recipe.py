from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from anomaly_u2net.errors import InputError, RecipeError
from anomaly_u2net.recipe import Recipe, apply_override
from anomaly_u2net.recipe.part import expanded

BASE: dict[str, Any] = {"name": "mine"}


def made(**parts: Any) -> Recipe:
    return Recipe.from_dict({**BASE, **parts})


# --- faults, each with its text -------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"trian": {}}, "unknown key 'trian' (did you mean 'train'?)"),
    (
        {"data": {"protocol": "10-shot"}},
        "data.protocol: expected a protocol, as given, kshot-10, hard-<type>-10, listed-16, "
        "third, full, full-fold1of5 or good_only, got '10-shot'",
    ),
    (
        {"data": {"protocol": "kshot-5", "borrow_defects": 0.3}},
        "data: borrow_defects 0.3 and protocol kshot-5 both say which defects are trained on: "
        "leave one of them out",
    ),
    (
        {"data": {"near_copies": "leave", "borrow_defects": 0.3}},
        "data: near_copies leave looks before borrow_defects 0.3 moves images to training: choose "
        "the masks by a protocol, as kshot-10",
    ),
    (
        {"data": {"validation_fold": "6of5"}},
        "data.validation_fold: expected one of two folds or more, as 1of5, got '6of5'",
    ),
    ({"data": {"validation_fold": "1of1"}}, "as 1of5, got '1of1'"),
    (
        {"data": {"validation_fold": "1of5", "validation_fraction": 0.3}},
        "data: validation_fraction 0.3 and validation_fold 1of5 both say what is held out: set "
        "validation_fraction to 0.1, its default, or validation_fold to null",
    ),
    ({"train": {"step": 3}}, "unknown key 'train.step' (did you mean 'steps'?)"),
    ({"data": {"qqq": 3}}, "unknown key 'data.qqq' (known here: root, card, categories,"),
    ({"zzz": 1}, "unknown key 'zzz' (known here: name, seed, data, model,"),
    ({"train": {"steps": "many"}}, "train.steps: Input should be a valid integer"),
    ({"train": {"steps": "many"}}, "got 'many'"),
    ({"train": {"steps": 1.5}}, "train.steps: Input should be a valid integer"),
    ({"train": {"steps": 0}}, "train.steps: Input should be greater than or equal to 1, got 0"),
    ({"train": {"defect_share": 1}}, "train.defect_share: Input should be less than 1, got 1"),
    ({"train": {"lr": float("nan")}}, "train.lr: Input should be a finite number, got nan"),
    ({"train": {"lr": float("inf")}}, "train.lr: Input should be a finite number, got inf"),
    ({"train": {"accelerator": "tpu"}}, "Input should be 'auto', 'cpu' or 'cuda', got 'tpu'"),
    ({"train": None}, "train: Input should be a valid dictionary"),
    ({"data": {"categories": "brick"}}, "data.categories: Input should be a valid list"),
    ({"data": {"calibration_fraction": 1.1}}, "data.calibration_fraction: Input should be less"),
    ({"name": "a/b"}, "name: String should match pattern"),
    ({"name": ""}, "name: String should have at least 1 character"),
    ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
    ({1: 2}, "1: Keys should be strings, got 1"),
    (
        {"model": {"arch": "segnet"}},
        "model.arch: unknown architecture 'segnet': expected one of u2net, u2netp",
    ),
    (
        {"model": {"width": 8}},
        "model: width does not belong to arch u2netp: set width to null (its keys: block, repeats,",
    ),
    (
        {"model": {"arch": "u2net_fast", "block": "dense", "width": 8, "depth": 3}},
        "model: block, width, depth do not belong to arch u2net_fast: set block to rsu, width to "
        "null, depth to null (its keys: fuse, deep_supervision, init, prior)",
    ),
    (
        {"model": {"arch": "smp/"}},
        "model.arch: unknown architecture 'smp/': expected one of u2net,",
    ),
    ({"model": {"arch": "smp/unet"}}, "or smp/DECODER-ENCODER, as smp/unet-resnet18"),
    ({"model": {"arch": "smp/unet-"}}, "unknown architecture 'smp/unet-'"),
    (
        {"model": {"arch": "cascaded", "repeats": 1}},
        "model: expected 2 or more U-Nets in arch cascaded, got repeats 1: use arch unet",
    ),
    (
        {"model": {"arch": "unet", "fuse": "mean"}},
        "model: fuse mean changes nothing: with deep_supervision none (arch unet) there is a single",
    ),
    (
        {"model": {"fuse": "mean", "deep_supervision": "none"}},
        "set fuse to conv1x1, or deep_supervision to all",
    ),
    (
        {"train": {"checkpoint": True}, "model": {"arch": "hed"}},
        "train.checkpoint expects an architecture made of stages, one of u2net, u2netp, u2net_fast, "
        "small, unet, cascaded, got hed: set it to false",
    ),
    (
        {"augment": {"crop_on_defect": 0.5}},
        "augment: crop_on_defect 0.5 changes nothing without crop: set crop, or crop_on_defect to",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"perlim": 1}}},
        "synthesis.generators: unknown generator 'perlim' (did you mean 'perlin'?)",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"blob": 1}}},
        "unknown generator 'blob' (known here: perlin, structure, cut_paste, scar, poisson, scratch,",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {}}},
        "synthesis.generators: expected at least one generator (known here: perlin, structure,",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"scar": 0}}},
        "synthesis.generators.scar: Input should be greater than 0, got 0",
    ),
    (
        {"synthesis": {"generators": {"scar": 1}}},
        "synthesis: generators change nothing with share 0: set share, as 0.5, or leave them out",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"scar": 1}, "textures": "noise"}},
        "textures noise changes nothing without the generator perlin: add it, or leave textures out",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"perlin": {"opacity": 0.5}}}},
        "synthesis.generators: expected a number, the weight of perlin, got {'opacity': 0.5}: set the "
        "parameters of a generator in synthesis.perlin, beside synthesis.generators",
    ),
    (
        {"synthesis": {"share": 0.5, "perlin": {"opacty": 0.5}}},
        "unknown key 'synthesis.perlin.opacty' (did you mean 'opacity'?)",
    ),
    (
        {"synthesis": {"share": 0.5, "paste": {"zoom": 2}}},
        "unknown key 'synthesis.paste'",
    ),
    (
        {"synthesis": {"share": 0.5, "scar": {"length": [25, 10]}}},
        "synthesis.scar.length: expected [low, high] with low ≤ high, got [25.0, 10.0]",
    ),
    (
        {"synthesis": {"share": 0.5, "poisson": {"side": True}}},
        "synthesis.poisson.side: expected no true or false here, got true",
    ),
    (
        {"synthesis": {"share": 0.5, "crack": {"opacity": 1.5}}},
        "synthesis.crack.opacity.0: Input should be less than or equal to 1, got 1.5",
    ),
    (
        {"synthesis": {"perlin": {"threshold": 0.4}}},
        "synthesis: perlin changes nothing with share 0: set share, as 0.5",
    ),
    (
        {"synthesis": {"share": 0.5, "generators": {"scar": 1}, "perlin": {"threshold": 0.4}}},
        "synthesis: perlin changes nothing without the generator perlin: add it to generators, or",
    ),
    ({"synthesis": {"share": 1.5}}, "synthesis.share: Input should be less than or equal to 1"),
    ({"synthesis": {"shares": 1}}, "unknown key 'synthesis.shares' (did you mean 'share'?)"),
    (
        {"loss": {"edge_weight": 0.5}},
        "loss: edge_weight 0.5 changes nothing with edge_band 0: set edge_band to 1 pixel or more, "
        "or edge_weight to 0.25",
    ),
    ({"model": {"arch": "small", "depth": 7}}, "model.depth: Input should be less than or equal"),
    ({"model": {"prior": 0.1, "init": "a.pth"}}, "model.prior is for training from scratch"),
    ({"input": {"size": 100}}, "input: size must be multiples of 32, got [100, 100]"),
    ({"input": {"size": [320]}}, "input.size.1 is missing"),
    ({"input": {"size": 0}}, "input.size.0: Input should be greater than or equal to 1, got 0"),
    ({"input": {"fit": "native"}}, "input.fit native needs augment.crop"),
    ({"augment": {"crop": 352}}, "augment.crop 352 is larger than input.size (320, 320)"),
    ({"augment": {"crop": 31}}, "augment.crop: Input should be greater than or equal to 32"),
    ({"augment": {"scale": [2, 1]}}, "augment: scale must be [low, high] within 0.1..10"),
    ({"augment": {"scale": [0.01, 1]}}, "augment: scale must be [low, high] within 0.1..10"),
    ({"loss": {"pixel": "mse"}}, "loss.pixel: unknown loss 'mse' (known here: bce, balanced_bce,"),
    ({"loss": {"pixel": "bce+dise"}}, "loss.pixel: unknown loss 'dise' (did you mean 'dice'?)"),
    ({"loss": {"pixel": "bce + dice"}}, "loss.pixel: unknown loss 'bce ' (did you mean 'bce'?)"),
    ({"loss": {"pixel": "bce+"}}, "loss.pixel: unknown loss '' (known here: bce, "),
    ({"loss": {"pixel": "bce+bce"}}, "loss.pixel: the loss 'bce' is there twice: name each once"),
    (
        {"loss": {"pixel": "ssim"}},
        "loss.pixel: ssim alone does not learn from good images: on one that is predicted 0.98 all "
        "over its gradient is less than 1e-5 of that of bce; use bce+ssim+iou",
    ),
    ({"loss": {"pixel": None}}, "loss.pixel: Input should be a valid string, got None"),
    ({"loss": {"reduce": "image"}}, "loss: reduce image changes nothing in pixel bce: it is for "),
    ({"loss": {"side_target": "own"}}, "loss.side_target: Input should be 'resized' or 'native'"),
    (
        {"loss": {"side_target": "native"}, "model": {"arch": "unet"}},
        'but with model.deep_supervision none (arch unet) there are none: use "resized"',
    ),
    (
        {"loss": {"side_target": "native"}, "model": {"deep_supervision": "fused_only"}},
        "but with model.deep_supervision fused_only (arch u2netp) there are none",
    ),
    (
        {"loss": {"side_weights": [1] * 6}, "model": {"deep_supervision": "fused_only"}},
        "loss.side_weights are for the losses on side outputs, but with model.deep_supervision fused",
    ),
    (
        {"loss": {"fused_weight": 0}, "model": {"arch": "dilated"}},
        "loss.fused_weight is 0, but with model.deep_supervision none (arch dilated) there is no",
    ),
    ({"loss": {"side_weights": [1, 1]}}, "loss.side_weights needs 6 numbers, got 2"),
    ({"loss": {"side_weights": [1, -1]}}, "loss.side_weights.1: Input should be greater than or"),
    (
        {"loss": {"side_weights": [0] * 6, "fused_weight": 0}},
        "loss: side_weights and fused_weight are all 0",
    ),
    ({"train": {"batch_size": 1}}, "leaves no room for both good and defect images"),
    ({"train": {"batch_size": 8, "defect_share": 0.01}}, "of batch_size 8 leaves no room"),
    (
        {"score": {"image_score": "mean"}},
        "score.image_score: expected max, topk_mean or area_above",
    ),
    ({"score": {"image_score": "area_above"}}, "a level between 0 and 1, as area_above:0.5, and"),
    ({"score": {"image_score": "area_above:1.0"}}, "got 'area_above:1.0'"),
    ({"score": {"image_score": "area_above:0.0"}}, "got 'area_above:0.0'"),
    ({"score": {"min_area": 0}}, "score.min_area: Input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("parts", "text"), FAULTS, ids=[text for _, text in FAULTS])
def test_a_fault_is_named(parts: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(text)) as caught:
        Recipe.from_dict({**BASE, **parts})
    assert str(caught.value).startswith("recipe: ")
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict({"train": {"stepz": 1, "lr": -1}, "seed": "x"}, source="file.yaml")
    text = str(caught.value)
    assert text.startswith("file.yaml: ")
    assert len(text.split("; ")) == 4
    for part in ("name is missing", "'train.stepz'", "train.lr: ", "seed: "):
        assert part in text


@pytest.mark.parametrize(("content", "text"), [
    (b"a: [1", r"a\.yaml: not valid YAML: "),
    (b"\xff\xfe\xfa", "not valid YAML: "),
    (b"- a\n- b\n", "expected a mapping at the top, got list"),
    (b"", "expected a mapping at the top, got NoneType"),
    (b"just words", "expected a mapping at the top, got str"),
    (b"name: a\nname2: b\n", r"a\.yaml: unknown key 'name2' \(did you mean 'name'\?\)"),
    (b"seed: 1\n", r"a\.yaml: name is missing"),
    (b"name: !!python/object/apply:os.getcwd []\n", "not valid YAML: could not determine"),
])  # fmt: skip
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=text):
        Recipe.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml: no such recipe file; .*recipe list"):
        Recipe.load(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="no such recipe file"):
        Recipe.load(tmp_path)


# --- defaults -------------------------------------------------------------------------------


def leaves(part: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, field in part.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += leaves(annotation, f"{prefix}{name}.")
        else:
            found.append((prefix + name, field))
    return found


def test_every_default_is_in_range_and_described_by_its_own_value() -> None:
    """Written out in full, the defaults are a recipe, and the same one."""
    recipe = made()
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    for key, field in leaves(Recipe):
        if key != "name":
            assert not field.is_required(), key


@pytest.mark.parametrize("key", [key for key, _ in leaves(Recipe)])
def test_every_key_is_in_the_digest(key: str) -> None:
    other = {
        "name": "b", "seed": 1, "root": "r", "card": "c", "categories": ["x"],
        "arch": "u2net", "width": 4, "depth": 3, "mid": 5, "block": "plain", "repeats": 2,
        "stem": "unshuffle2", "upsample": "nearest", "conv": "separable", "fuse": "mean",
        "deep_supervision": "none", "init": "i", "prior": 0.1,
        "fit": "stretch", "size": [32, 32], "crop": 64, "flip": False, "quarter_turns": True,
        "scale": [0.5, 1], "pixel": "focal", "side_weights": [0.5] * 6, "schedule": "constant",
        "reduce": "image", "side_target": "native",
        "area": [0.1, 0.2], "aspect": 2, "length": 20, "turn": 5, "side": 0.1, "zoom": 1,
        "window": 0.5, "opacity": 0.5, "threshold": 0.4, "tiles": 4,
        "protocol": "kshot-10", "validation_fold": "1of5", "near_copies": "leave",
        "generators": {"scar": 1}, "textures": "noise",
        "select": "last", "precision": "bf16", "accelerator": "cpu", "image_score": "topk_mean",
    }  # fmt: skip
    last = key.rsplit(".", 1)[-1]
    data = made().to_dict()
    if last in ("width", "depth", "mid"):
        data["model"]["arch"] = "small"
    if last == "reduce":
        data["loss"]["pixel"] = "dice"
    if last == "edge_weight":
        data["loss"]["edge_band"] = 2
    if last == "crop_on_defect":
        data["augment"]["crop"] = 64
    if key.startswith("synthesis.") and last != "share":
        data["synthesis"]["share"] = 0.5
    before = Recipe.from_dict(copy.deepcopy(data)).digest
    value = data
    for part in key.split(".")[:-1]:
        value = value.setdefault(part, {})
    if key == "synthesis.scar.width":
        value[last] = 4
    elif key.startswith("synthesis.") and last == "scale":
        value[last] = 3
    elif last in other:
        value[last] = other[last]
    else:
        value[last] = value[last] + 1 if isinstance(value[last], int) else value[last] * 0.5 + 0.01
    assert Recipe.from_dict(data).digest != before


def test_the_digest_follows_the_meaning_and_not_the_writing() -> None:
    a = made(train={"steps": 5, "lr": 0.001}, input={"size": 320})
    b = made(input={"size": [320, 320]}, train={"lr": 1e-3, "steps": 5}, seed=0)
    assert a.digest == b.digest
    assert re.fullmatch("[0-9a-f]{64}", a.digest)
    assert a.digest == Recipe.from_dict(yaml.safe_load(a.to_yaml())).digest


def test_parameters_of_generators_are_in_the_digest_only_where_they_are_set() -> None:
    """Runs from before there were any go on by their digest."""
    plain = made(synthesis={"share": 0.5})
    assert set(plain.to_dict()["synthesis"]) == {"share", "generators", "textures"}
    named = made(synthesis={"share": 0.5, "perlin": {"opacity": [0.1, 1]}, "scar": {}})
    assert named.digest == plain.digest
    set_ = plain.with_overrides(["synthesis.perlin.opacity=0.5", "synthesis.hole={window: 1}"])
    dumped = set_.to_dict()["synthesis"]
    assert dumped["perlin"] == {"scale": [0, 5], "threshold": 0.5, "opacity": [0.5, 0.5]}
    assert dumped["hole"] == {"window": [1.0, 1.0], "opacity": [0.4, 1.0]}
    assert "crack" not in dumped
    assert Recipe.from_dict(yaml.safe_load(set_.to_yaml())) == set_


def test_a_fold_is_in_the_digest_only_where_there_is_one() -> None:
    plain = made()
    assert "validation_fold" not in plain.to_dict()["data"]
    assert made(data={"validation_fold": None}).digest == plain.digest
    folded = plain.with_overrides(["data.validation_fold=2of4"])
    assert Recipe.from_dict(yaml.safe_load(folded.to_yaml())).data.validation_fold == "2of4"


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    assert made(train=yaml.safe_load("{lr: 1e-3}")).train.lr == 0.001


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        made().seed = 3  # type: ignore[misc]


def test_side_weights_follow_the_depth_of_small() -> None:
    for model, sides in (({}, 4), ({"depth": 2}, 2), ({"depth": 6}, 6)):
        made(model={"arch": "small", **model}, loss={"side_weights": [1] * sides})
        with pytest.raises(RecipeError, match=f"needs {sides} numbers, got {sides + 1}"):
            made(model={"arch": "small", **model}, loss={"side_weights": [1] * (sides + 1)})


# --- there and back -------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    steps=st.integers(1, 10**9),
    lr=st.floats(1e-12, 1e3),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**63),
    root=st.text(max_size=20) | st.none(),
    pixel=st.sampled_from(["bce", "focal", "lovasz", "bce+ssim+iou"]),
)
def test_yaml_keeps_everything(
    steps: int, lr: float, size: tuple[int, int], seed: int, root: str | None, pixel: str
) -> None:
    recipe = made(
        seed=seed,
        data={"root": root},
        train={"steps": steps, "lr": lr},
        input={"size": [32 * side for side in size]},
        loss={"pixel": pixel},
    )
    again = Recipe.from_dict(yaml.safe_load(recipe.to_yaml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_save_and_load(tmp_path: Path) -> None:
    recipe = made(data={"root": "$PLACE/ä", "categories": ["a", "b"]}, augment={"scale": [0.5, 2]})
    recipe.save(tmp_path / "run" / "recipe.yaml")
    assert Recipe.load(tmp_path / "run" / "recipe.yaml") == recipe
    assert "ä" in (tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8")


# --- overrides ------------------------------------------------------------------------------


def test_overrides_are_read_as_yaml_and_applied_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ntrain: {steps: 10}\n")
    recipe = Recipe.load(
        path,
        overrides=[
            "train.steps=20", "train.steps = 30", "name=b", "data.categories=[x, y]",
            "data.root=a=b", "train.clip=null", "input.size=64", "augment.flip=no",
        ],
    )  # fmt: skip
    assert (recipe.train.steps, recipe.name, recipe.data.categories) == (30, "b", ["x", "y"])
    assert (recipe.data.root, recipe.train.clip, recipe.augment.flip) == ("a=b", None, False)
    assert recipe.input.size == (64, 64)


def test_an_override_makes_its_section() -> None:
    data: dict[str, Any] = {}
    apply_override(data, "model.arch=small")
    apply_override(data, "model.depth=2")
    assert data == {"model": {"arch": "small", "depth": 2}}


def test_with_overrides_is_a_changed_copy() -> None:
    recipe = made()
    other = recipe.with_overrides(["train.steps=7", "augment.scale=[0.5, 1.5]"])
    assert (other.train.steps, other.augment.scale) == (7, (0.5, 1.5))
    assert recipe == made()
    assert recipe.with_overrides([]) == recipe


@pytest.mark.parametrize(("text", "message"), [
    ("train.steps", r"--set 'train\.steps': expected KEY=VALUE, e\.g\. train\.steps=100"),
    ("=3", "expected KEY=VALUE"),
    ("  =3", "expected KEY=VALUE"),
    ("name.x=3", r"--set 'name\.x=3': 'name' is a value, not a section"),
    ("train.steps=[1", "the value is not valid YAML"),
    ("train.stepz=1", r"unknown key 'train\.stepz' \(did you mean 'steps'\?\)"),
    ("train.steps.x=1", "'steps' is a value, not a section"),
    ("train.steps=", r"train\.steps: Input should be a valid integer, got None"),
    ("train..steps=1", r"unknown key 'train\.'"),
])  # fmt: skip
def test_a_bad_override(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        made().with_overrides([text])


# --- the data's root ------------------------------------------------------------------------


def test_data_root_expands_variables_and_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert made(data={"root": "$PLACE/tile"}).data_root() == Path("/somewhere/tile")
    assert made(data={"root": "${PLACE}x"}).data_root() == Path("/somewherex")
    assert made(data={"root": "~/tile"}).data_root() == tmp_path / "tile"
    assert made(data={"root": "plain"}).data_root() == Path("plain")
    # The recipe keeps what was written: its digest does not depend on the machine.
    assert made(data={"root": "$PLACE"}).to_dict()["data"]["root"] == "$PLACE"


def test_data_root_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLACE", raising=False)
    with pytest.raises(RecipeError, match=r"data\.root is not set: give --data-root FOLDER"):
        made().data_root()
    with pytest.raises(RecipeError, match=r"'\$PLACE/a', and that variable is not set"):
        made(data={"root": "$PLACE/a"}).data_root()


def test_a_dollar_that_is_no_variable_is_part_of_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE", "a$ b")
    for text, path in (("server/c$/tile", "server/c$/tile"), ("$PRICE/tile", "a$ b/tile")):
        assert expanded(text, key="data.root", instead="") == Path(path)


# --- what a slip of the keyboard must not do ------------------------------------------------


@pytest.mark.parametrize("text", ["{steps: true}", "{lr: yes}", "{ema: false}"])
def test_true_is_no_number(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"name: a\ntrain: {text}\n")
    with pytest.raises(RecipeError, match=r"train\.\w+: expected no true or false here, got"):
        Recipe.load(tmp_path / "a.yaml")


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ntrain: {steps: 5}\ntrain: {lr: 0.1}\n")
    with pytest.raises(RecipeError, match="the key 'train' is there twice"):
        Recipe.load(tmp_path / "a.yaml")


def test_quarter_turns_need_a_square() -> None:
    oblong = {"size": [64, 96]}
    with pytest.raises(RecipeError, match=r"quarter_turns needs augment.crop or a square"):
        made(input=oblong, augment={"quarter_turns": True})
    assert made(input=oblong, augment={"quarter_turns": True, "crop": 64}).augment.quarter_turns
