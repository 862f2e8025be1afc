"""The exact metrics as torchmetrics classes: in Lightning, in anomalib, over several processes.

::

    self.aupro = AUPRO(fpr_limit=0.05)                    # in a LightningModule
    self.aupro.update(maps, masks)                        # (B, 1, h, w) or (B, h, w), at any batch
    self.log("aupro", self.aupro)

    create_anomalib_metric(AUPRO)(prefix="pixel_")        # in anomalib's Evaluator: it finds the
                                                          # fields of a batch in default_fields

Maps and masks are kept until ``compute``, as flat float32 and uint8: 5 bytes a pixel (move them to
the CPU with ``compute_on_cpu=True``). Over several processes they are gathered, so every process
computes the exact number of all images; batches may differ in size, and a process may have none.
Lightning's distributed sampler repeats images to fill the last batch: turn that off to measure.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from anomaly_u2net.errors import InputError, MissingExtra, NotComputable
from anomaly_u2net.metrics import aupimo, image_curve, pixel_curve
from anomaly_u2net.metrics.pimo import FPR_LIMITS

try:
    import torch
    from torch import Tensor
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat
except ImportError as error:
    raise MissingExtra("train", "torchmetrics") from error

Undefined: TypeAlias = Literal["raise", "nan"]


class _Kept(Metric):
    """Keeps what it is given as flat lists and joins it over processes.

    undefined: what ``compute`` does with a number that is undefined for the data (no defect, no
    good pixel): "raise" NotComputable, or return "nan", which lets a training run with Lightning's
    sanity check go on.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = True
    full_state_update: bool | None = False
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    #: The lists that are kept, and their types.
    kept: ClassVar[dict[str, torch.dtype]]

    def __init__(
        self, *, undefined: Undefined = "raise", compute_on_cpu: bool = False, **kwargs: Any
    ) -> None:
        """kwargs: those of `torchmetrics.Metric` (process_group, sync_on_compute …)."""
        super().__init__(compute_on_cpu=compute_on_cpu, **kwargs)
        if undefined not in get_args(Undefined):
            raise InputError(f'expected undefined "raise" or "nan", got {undefined!r}')
        self.undefined = undefined
        for name in self.kept:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """As torchmetrics; a process without images joins in with empty lists of the right type."""
        for name, dtype in self.kept.items():
            state = getattr(self, name)
            if isinstance(state, list) and not state:
                state.append(torch.zeros(0, dtype=dtype, device=self.device))
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> Tensor:
        """The exact number, float64, of all that was given; see `undefined` in the class."""
        try:
            value = self._number()
        except NotComputable:
            if self.undefined == "raise":
                raise
            value = float("nan")
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)

    @abstractmethod
    def _number(self) -> float:
        """The number of all that was given; raises NotComputable where it is undefined."""

    def _array(self, name: str) -> np.ndarray[Any, Any]:
        state = getattr(self, name)
        if isinstance(state, list) and not state:
            return np.zeros(0, np.float32)
        return np.asarray(dim_zero_cat(state).detach().cpu().numpy())


class _PixelMetric(_Kept):
    """A number of maps and masks."""

    #: What anomalib's `create_anomalib_metric` hands in.
    default_fields: Sequence[str] = ("anomaly_map", "gt_mask")
    kept: ClassVar[dict[str, torch.dtype]] = {
        "scores": torch.float32,
        "defects": torch.uint8,
        "sizes": torch.int64,
    }
    scores: list[Tensor]
    defects: list[Tensor]
    sizes: list[Tensor]

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Keep a batch of B maps and masks.

        maps: floating (B, 1, h, w) or (B, h, w); compared as float32. masks: bool or integer, of
        the same shape with or without the 1; nonzero = defect.
        Raises InputError for other shapes or types; NaN and infinity are found by ``compute``.
        """
        planes, defects = _planes(maps, "maps"), _planes(masks, "masks")
        if planes.shape != defects.shape:
            raise InputError(
                f"expected maps and masks of one shape, got {tuple(maps.shape)} and "
                f"{tuple(masks.shape)}"
            )
        if not planes.is_floating_point() or defects.is_floating_point():
            raise InputError(
                f"expected floating maps and bool or integer masks, got {maps.dtype} and "
                f"{masks.dtype}"
            )
        self.scores.append(planes.detach().to(self.device, torch.float32).flatten())
        self.defects.append((defects != 0).to(self.device, torch.uint8).flatten())
        size = torch.tensor(planes.shape[1:], device=self.device)
        self.sizes.append(size.repeat(len(planes)))

    def _images(self) -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        sizes = self._array("sizes").astype(np.int64).reshape(-1, 2)
        ends = np.cumsum(sizes.prod(axis=1))[:-1]
        if not len(sizes):
            return [], []
        return tuple(  # type: ignore[return-value]
            [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]
            for parts in (np.split(self._array(name), ends) for name in ("scores", "defects"))
        )


class PixelAUROC(_PixelMetric):
    """`anomaly_u2net.metrics.pixel_auroc` as a torchmetrics class.

    >>> metric = PixelAUROC()
    >>> metric.update(torch.tensor([[[0.9, 0.1, 0.4]]]), torch.tensor([[[1, 0, 0]]]))
    >>> metric.compute().item()
    1.0
    """

    def _number(self) -> float:
        return pixel_curve(*self._images()).auroc()


class PixelAP(_PixelMetric):
    """`anomaly_u2net.metrics.pixel_ap` as a torchmetrics class."""

    def _number(self) -> float:
        return pixel_curve(*self._images()).ap()


class PixelF1Max(_PixelMetric):
    """`anomaly_u2net.metrics.pixel_f1_max` as a torchmetrics class."""

    def _number(self) -> float:
        return pixel_curve(*self._images()).f1_max()


class AUPRO(_PixelMetric):
    """`anomaly_u2net.metrics.aupro` up to ``fpr_limit`` as a torchmetrics class."""

    def __init__(self, *, fpr_limit: float = 0.3, **kwargs: Any) -> None:
        """kwargs: undefined, compute_on_cpu and those of `torchmetrics.Metric`."""
        super().__init__(**kwargs)
        self.fpr_limit = fpr_limit

    def _number(self) -> float:
        return pixel_curve(*self._images()).aupro(fpr_limit=self.fpr_limit)


class AUPIMO(_PixelMetric):
    """`anomaly_u2net.metrics.aupimo` between ``fpr_limits`` as a torchmetrics class."""

    def __init__(self, *, fpr_limits: tuple[float, float] = FPR_LIMITS, **kwargs: Any) -> None:
        """kwargs: undefined, compute_on_cpu and those of `torchmetrics.Metric`."""
        super().__init__(**kwargs)
        self.fpr_limits = fpr_limits

    def _number(self) -> float:
        return aupimo(*self._images(), fpr_limits=self.fpr_limits)


class _ImageMetric(_Kept):
    """A number of image scores and labels."""

    #: What anomalib's `create_anomalib_metric` hands in.
    default_fields: Sequence[str] = ("pred_score", "gt_label")
    kept: ClassVar[dict[str, torch.dtype]] = {"scores": torch.float32, "labels": torch.int64}
    scores: list[Tensor]
    labels: list[Tensor]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Keep B scores, floating (B,) or (B, 1), compared as float32, and labels, 0 or 1.

        Raises InputError for unequal numbers or scores that are not floating; other labels, NaN
        and infinity are found by ``compute``.
        """
        if scores.numel() != labels.numel() or not scores.is_floating_point():
            raise InputError(
                f"expected one floating score and one label per image, got {scores.dtype} "
                f"{tuple(scores.shape)} and {tuple(labels.shape)}"
            )
        self.scores.append(scores.detach().to(self.device, torch.float32).flatten())
        self.labels.append(labels.to(self.device, torch.int64).flatten())

    def _curve_parts(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return self._array("scores"), self._array("labels").astype(np.int64)


class ImageAUROC(_ImageMetric):
    """`anomaly_u2net.metrics.image_auroc` as a torchmetrics class.

    >>> metric = ImageAUROC()
    >>> metric.update(torch.tensor([0.9, 0.2, 0.5, 0.2]), torch.tensor([1, 1, 0, 0]))
    >>> metric.compute().item()
    0.625
    """

    def _number(self) -> float:
        return image_curve(*self._curve_parts()).auroc()


class ImageAP(_ImageMetric):
    """`anomaly_u2net.metrics.image_ap` as a torchmetrics class."""

    def _number(self) -> float:
        return image_curve(*self._curve_parts()).ap()


class ImageF1Max(_ImageMetric):
    """`anomaly_u2net.metrics.image_f1_max` as a torchmetrics class."""

    def _number(self) -> float:
        return image_curve(*self._curve_parts()).f1_max()


def _planes(batch: Tensor, name: str) -> Tensor:
    """(B, 1, h, w) or (B, h, w) as (B, h, w)."""
    if batch.ndim == 4 and batch.shape[1] == 1:
        return batch[:, 0]
    if batch.ndim != 3:
        raise InputError(f"expected {name} (B, 1, h, w) or (B, h, w), got {tuple(batch.shape)}")
    return batch
