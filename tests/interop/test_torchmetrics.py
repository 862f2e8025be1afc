"""The torchmetrics classes give the exact numbers: alone, in Lightning, in anomalib, over processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchmetrics")

from anomaly_u2net import metrics as exact  # noqa: E402
from anomaly_u2net.errors import InputError, MapError, NotComputable  # noqa: E402
from anomaly_u2net.interop.torchmetrics import (  # noqa: E402
    AUPIMO,
    AUPRO,
    ImageAP,
    ImageAUROC,
    ImageF1Max,
    PixelAP,
    PixelAUROC,
    PixelF1Max,
)

PIXEL = {
    PixelAUROC: exact.pixel_auroc,
    PixelAP: exact.pixel_ap,
    PixelF1Max: exact.pixel_f1_max,
    AUPRO: exact.aupro,
    AUPIMO: exact.aupimo,
}
IMAGE = {ImageAUROC: exact.image_auroc, ImageAP: exact.image_ap, ImageF1Max: exact.image_f1_max}


def images(count: int = 6, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = np.zeros((count, size, size), np.uint8)
    masks[::2, 3:9, 4:12] = 255
    maps = rng.standard_normal(masks.shape) + rng.uniform(0, 5, (count, 1, 1)) * (masks > 0)
    return maps.astype(np.float32), masks


@pytest.mark.parametrize("metric", PIXEL)
def test_pixel_metrics_are_the_functions(metric: type) -> None:
    maps, masks = images()
    ours = metric()
    ours.update(torch.from_numpy(maps[:4])[:, None], torch.from_numpy(masks[:4])[:, None])
    ours.update(torch.from_numpy(maps[4:]), torch.from_numpy(masks[4:] > 0))
    assert ours.compute().item() == PIXEL[metric](maps, masks)
    ours.reset()
    # a batch of another size, which a plain list of maps could not be joined with
    ours.update(torch.from_numpy(maps[:3]), torch.from_numpy(masks[:3]))
    ours.update(torch.from_numpy(maps[3:, :10, :11]), torch.from_numpy(masks[3:, :10, :11]))
    joined = [*maps[:3], *maps[3:, :10, :11]], [*masks[:3], *masks[3:, :10, :11]]
    assert ours.compute().item() == PIXEL[metric](*joined)


@pytest.mark.parametrize("metric", IMAGE)
def test_image_metrics_are_the_functions(metric: type) -> None:
    scores = np.array([0.9, 0.2, 0.5, 0.2, 0.7], np.float32)
    labels = np.array([1, 1, 0, 0, 1])
    ours = metric(compute_on_cpu=True)
    ours.update(torch.from_numpy(scores[:2]), torch.from_numpy(labels[:2]))
    ours.update(torch.from_numpy(scores[2:, None]), torch.from_numpy(labels[2:] > 0))
    assert ours.compute().item() == IMAGE[metric](scores, labels)


def test_limits_are_handed_on() -> None:
    maps, masks = images()
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)
    narrow, wide = AUPRO(fpr_limit=0.05), AUPIMO(fpr_limits=(0.001, 0.1))
    assert narrow(*tensors).item() == exact.aupro(maps, masks, fpr_limit=0.05)
    assert wide(*tensors).item() == exact.aupimo(maps, masks, fpr_limits=(0.001, 0.1))


def test_undefined_raises_or_is_nan_as_asked() -> None:
    good = torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    raising, quiet = PixelAP(), PixelAP(undefined="nan")
    for metric in (raising, quiet):
        metric.update(*good)
    with pytest.raises(NotComputable, match="all 32 pixels are good"):
        raising.compute()
    assert quiet.compute().isnan()
    empty = ImageAUROC()
    with (
        pytest.warns(UserWarning, match="before the ``update`` method"),
        pytest.raises(NotComputable, match="no images"),
    ):
        empty.compute()


def test_bad_input() -> None:
    maps, masks = torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"maps \(B, 1, h, w\) or \(B, h, w\), got \(2, 3, 4, 4\)"):
        AUPRO().update(torch.rand(2, 3, 4, 4), masks)
    with pytest.raises(InputError, match=r"of one shape, got \(2, 4, 4\) and \(1, 4, 4\)"):
        AUPRO().update(maps, masks[:1])
    with pytest.raises(InputError, match=r"bool or integer masks, got torch.float32 and torch.fl"):
        AUPRO().update(maps, maps)
    with pytest.raises(
        InputError, match=r"one floating score and one label per image, got .*int64"
    ):
        ImageAP().update(torch.tensor([1, 2]), torch.tensor([0, 1]))
    with pytest.raises(InputError, match='undefined "raise" or "nan", got \'zero\''):
        ImageAP(undefined="zero")
    broken = PixelAP()
    broken.update(maps * float("nan"), masks)
    with pytest.raises(MapError, match="map 0: 16 of 16 pixels are NaN"):
        broken.compute()


def loader(maps: np.ndarray, masks: np.ndarray) -> Any:
    pairs = list(zip(torch.from_numpy(maps), torch.from_numpy(masks), strict=True))
    return torch.utils.data.DataLoader(pairs, batch_size=2)


@pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_in_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.aupro, self.ap = AUPRO(), ImageAP()

        def validation_step(self, batch: Any, index: int) -> None:
            maps, masks = batch
            self.aupro.update(maps, masks)
            self.ap.update(maps.amax((1, 2)), masks.amax((1, 2)) > 0)
            self.log("aupro", self.aupro)
            self.log("ap", self.ap)

    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    maps, masks = images()
    for _ in range(2):  # Lightning resets between epochs
        (logged,) = trainer.validate(Module(), loader(maps, masks), verbose=False)
        assert logged["aupro"] == exact.aupro(maps, masks)
        assert logged["ap"] == exact.image_ap(maps.max((1, 2)), masks.max((1, 2)) > 0)


@pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_anomalibs_evaluator(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    anomalib_metrics = pytest.importorskip("anomalib.metrics")
    from anomalib.data import ImageBatch

    maps, masks = images()
    wrap = anomalib_metrics.create_anomalib_metric
    evaluator = anomalib_metrics.Evaluator(
        test_metrics=[
            wrap(AUPRO)(prefix="narrow_", fpr_limit=0.05),
            wrap(PixelAUROC)(),
            wrap(ImageAUROC)(fields=["pred_score", "gt_label"]),
        ]
    )
    pairs = [
        (torch.from_numpy(m), torch.from_numpy(k > 0)) for m, k in zip(maps, masks, strict=True)
    ]

    def as_batch(samples: list) -> ImageBatch:
        planes = torch.stack([plane for plane, _ in samples])
        truth = torch.stack([mask for _, mask in samples])
        return ImageBatch(
            image=torch.zeros(len(samples), 3, 24, 24),
            anomaly_map=planes[:, None],
            pred_score=planes.amax((1, 2)),
            gt_mask=truth,
            gt_label=truth.any(2).any(1),
        )

    seen: list[int] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.evaluator = evaluator  # as anomalib's own modules hold it

        def test_step(self, batch: Any, index: int) -> None:  # Lightning's hook, no test
            seen.append(len(batch.gt_mask))

    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[evaluator],
    )  # fmt: skip
    batches = torch.utils.data.DataLoader(pairs, batch_size=4, collate_fn=as_batch)
    (logged,) = trainer.test(Module(), batches, verbose=False)
    assert sum(seen) == len(pairs)
    assert logged["narrow_AUPRO"] == exact.aupro(maps, masks, fpr_limit=0.05)
    assert logged["PixelAUROC"] == exact.pixel_auroc(maps, masks)
    assert logged["ImageAUROC"] == exact.image_auroc(maps.max((1, 2)), masks.any((1, 2)))


TWO_PROCESSES = """
import json, sys
import numpy as np, torch
import torch.distributed as dist
from anomaly_u2net.interop.torchmetrics import AUPRO, ImageAUROC, PixelAP


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    with np.load(f"{folder}/images.npz") as arrays:
        maps, masks = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["masks"])
    found = {}
    for name, mine in {
        "halves": [slice(0, 3), slice(3, 6)], "uneven": [slice(0, 5), slice(5, 6)],
        "one has none": [slice(0, 0), slice(0, 6)],
    }.items():
        pro, ap, roc = AUPRO(), PixelAP(), ImageAUROC()
        part = maps[mine[rank]], masks[mine[rank]]
        for plane, mask in zip(*part):
            pro.update(plane[None], mask[None])
            ap.update(plane[None], mask[None])
            roc.update(plane.amax()[None], (mask.amax() > 0)[None])
        # a process without images never called update, of which torchmetrics warns
        found[name] = [metric.compute().item() for metric in (pro, ap, roc)]
        assert pro._is_synced is False
        assert found[name][0] == pro.compute().item()
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(found, file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    work(int(sys.argv[2]), sys.argv[1])
"""


def test_two_processes_give_the_number_of_all_images(
    tmp_path: Path, single_thread: dict[str, str]
) -> None:
    maps, masks = images()
    np.savez(tmp_path / "images.npz", maps=maps, masks=masks)
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, str(script), str(tmp_path)]
    workers = [
        subprocess.Popen(
            [*command, str(rank)], stderr=subprocess.PIPE, text=True, env=single_thread
        )
        for rank in (0, 1)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    expected = [
        exact.aupro(maps, masks),
        exact.pixel_ap(maps, masks),
        exact.image_auroc(maps.max((1, 2)), masks.any((1, 2))),
    ]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert list(found) == ["halves", "uneven", "one has none"]
        for numbers in found.values():
            assert numbers == pytest.approx(expected, abs=1e-12)


def test_without_torchmetrics_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torchmetrics'] = None\n"
        "from anomaly_u2net.errors import MissingExtra\n"
        "try:\n    import anomaly_u2net.interop.torchmetrics\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("torchmetrics is not installed: pip install 'anomaly_u2net[train]'\n")


def test_the_door_itself_imports_nothing() -> None:
    code = "import sys, anomaly_u2net.interop; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
