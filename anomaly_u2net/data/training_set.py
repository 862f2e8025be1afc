"""Training images as balanced, reproducible batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from anomaly_u2net.data.augment import augment
from anomaly_u2net.data.emphasis import emphasis
from anomaly_u2net.data.geometry import Geometry, normalise, plan
from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.paste import paste_defect
from anomaly_u2net.data.synthesis import Sources, make_defect, open_sources
from anomaly_u2net.data.synthesis.textures import CACHE_BYTES as TEXTURE_BYTES
from anomaly_u2net.errors import InputError
from anomaly_u2net.recipe import AugmentRecipe, InputRecipe, LossRecipe, SynthesisRecipe
from anomaly_u2net.types import Batch, Image, ImageRecord, Mask, Sample

#: Decoded images are kept up to this many bytes, over all processes; the rest is read each time.
CACHE_BYTES = 4 * 2**30

#: Which image, and the seed of everything random that is done to it.
Draw = tuple[int, int]


class Fitted(NamedTuple):
    """An image on the network's canvas, how it came there, and how much its pixels count.

    weight: float32 (h, w); ``None`` where it is made quickly: every pixel of the image counts alike.
    """

    sample: Sample
    geometry: Geometry
    weight: NDArray[np.float32] | None


class TrainingSet(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Records, fitted to the network's canvas once and augmented at each draw.

    ``self[(index, seed)]`` is (image float32 (3, h, w), mask float32 (1, h, w),
    weight float32 (1, h, w)); the same key gives the same tensors. ``loss`` says how much the pixels
    count (see `emphasis`), ``synthesis`` how many good images get a made defect.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        fit: InputRecipe,
        augmentation: AugmentRecipe,
        loss: LossRecipe | None = None,
        synthesis: SynthesisRecipe | None = None,
        processes: int = 1,
    ) -> None:
        self.records = list(records)
        self.fit = fit
        self.augmentation = augmentation
        self.loss = loss or LossRecipe()
        self._cache: dict[int, Fitted] = {}
        self._free = CACHE_BYTES // processes
        self.synthesis = synthesis or SynthesisRecipe()
        # category → indexes of its good images, and of its defect images
        self._own: dict[str, tuple[list[int], list[int]]] = {}
        for index, record in enumerate(self.records):
            self._own.setdefault(record.category, ([], []))[record.defective].append(index)
        self._sources: dict[str, Sources] = {}
        if self.synthesis.share:
            self._sources = open_sources(
                self._inside,
                self._own,
                textures=self.synthesis.textures,
                cache_bytes=TEXTURE_BYTES // processes,
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index, seed = draw
        sample, geometry, weight = self._fitted(index)
        rng = np.random.default_rng([seed, 2])
        if not sample.record.defective and rng.random() < self.synthesis.share:
            image, mask = self._with_made(sample, geometry, rng)
        else:
            image, mask = self._with_pasted(sample, geometry, np.random.default_rng([seed, 1]))
        if weight is None or mask is not sample.mask:
            weight = self._weight(mask, geometry)
        image, mask, weight = augment(
            image, mask, weight=weight, recipe=self.augmentation, seed=seed
        )
        return (
            torch.from_numpy(normalise(image)),
            torch.from_numpy(mask.astype(np.float32))[None],
            torch.from_numpy(weight)[None],
        )

    def _with_pasted(
        self, sample: Sample, geometry: Geometry, rng: np.random.Generator
    ) -> tuple[Image, Mask]:
        """Image and mask of ``sample``, some of them with a defect of another image."""
        if rng.random() >= self.augmentation.paste:
            return sample.image, sample.mask
        _, defective = self._own[sample.record.category]
        donors = [index for index in defective if self.records[index] != sample.record]
        if not donors:
            return sample.image, sample.mask
        here = geometry.inside
        image, mask = sample.image.copy(), sample.mask.copy()
        image[here], mask[here] = paste_defect(
            sample.image[here],
            sample.mask[here],
            donor=self._inside(donors[rng.integers(len(donors))]),
            largest=(self.augmentation.crop or min(geometry.resized)) // 2,
            rng=rng,
        )
        return image, mask

    def _with_made(
        self, sample: Sample, geometry: Geometry, rng: np.random.Generator
    ) -> tuple[Image, Mask]:
        """Image and mask of a good ``sample`` with a made defect, if one can be seen on it."""
        here = geometry.inside
        image, mask = sample.image.copy(), sample.mask.copy()
        image[here], mask[here] = make_defect(
            np.ascontiguousarray(sample.image[here]),
            self.synthesis.generators,
            sources=self._sources[sample.record.category],
            rng=rng,
            parameters=self.synthesis,
        )
        return image, mask

    def _inside(self, index: int) -> tuple[Image, Mask]:
        """Image and mask on the canvas, without padding."""
        sample, geometry, _ = self._fitted(index)
        return sample.image[geometry.inside], sample.mask[geometry.inside]

    def _weight(self, mask: Mask, geometry: Geometry) -> NDArray[np.float32]:
        return geometry.weight() * emphasis(mask, recipe=self.loss)

    def _fitted(self, index: int) -> Fitted:
        if index in self._cache:
            return self._cache[index]
        sample = read_sample(self.records[index])
        height, width = sample.mask.shape
        geometry = plan((height, width), self.fit.fit, size=self.fit.size)
        fitted = Sample(geometry.image(sample.image), geometry.mask(sample.mask), sample.record)
        uneven = fitted.mask.any() and (self.loss.small_regions or self.loss.edge_band)
        weight = self._weight(fitted.mask, geometry) if uneven else None
        entry = Fitted(fitted, geometry, weight)
        size = fitted.image.nbytes + fitted.mask.nbytes + (0 if weight is None else weight.nbytes)
        if size <= self._free:
            self._free -= size
            self._cache[index] = entry
        return entry


def collate(items: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Batch:
    """Stack samples into a `Batch`."""
    image, mask, weight = (torch.stack(parts) for parts in zip(*items, strict=True))
    return Batch(image, mask, weight)


class BalancedBatches(Sampler[list[Draw]]):
    """Batches with a fixed share of defect images, as a pure function of (seed, step, rank).

    Every defect image is drawn once before any is drawn again, and so is every good one. Nothing
    is carried from batch to batch: a run that resumes at a step goes on with the same batches.
    ``good_only`` permits images without a defect among them: batches of good images alone, on which
    defects are to be made.
    """

    def __init__(
        self,
        defective: Sequence[bool],
        *,
        batch_size: int,
        defect_share: float,
        steps_per_epoch: int,
        seed: int,
        ranks: int = 1,
        good_only: bool = False,
    ) -> None:
        self.pools = {
            wanted: np.flatnonzero(np.asarray(defective) == wanted) for wanted in (False, True)
        }
        good, defects = (len(self.pools[wanted]) for wanted in (False, True))
        if not good or not (defects or good_only):
            raise InputError(
                f"expected at least one good and one defect image for balanced batches, got {good} "
                f"good and {defects} defect images: add what is missing, or set synthesis.share to "
                "make defects on good images"
            )
        defects = round(batch_size * defect_share) if defects else 0
        self.counts = {False: batch_size - defects, True: defects}
        self.steps_per_epoch = steps_per_epoch
        self.seed, self.ranks = seed, ranks
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    @property
    def sampler(self) -> BalancedBatches:
        """Where Lightning looks for ``set_epoch``; without it every epoch would be the first."""
        return self

    def __iter__(self) -> Iterator[list[Draw]]:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        first = self.epoch * self.steps_per_epoch
        for step in range(first, first + self.steps_per_epoch):
            yield self.batch(step, rank=rank)

    def batch(self, step: int, *, rank: int = 0) -> list[Draw]:
        """The draws of process ``rank`` at optimiser step ``step`` (from 0 over the whole run)."""
        turn = step * self.ranks + rank
        seeds = np.random.default_rng([self.seed, 1, turn]).integers(
            2**62, size=sum(self.counts.values())
        )
        indices = [
            self._draw(wanted, turn * count + slot)
            for wanted, count in self.counts.items()
            for slot in range(count)
        ]
        return [(index, int(seed)) for index, seed in zip(indices, seeds, strict=True)]

    def _draw(self, wanted: bool, number: int) -> int:
        """The ``number``-th draw from a pool: position in an endless row of shuffled passes."""
        pool = self.pools[wanted]
        round_, position = divmod(number, len(pool))
        order = np.random.default_rng([self.seed, 2, int(wanted), round_]).permutation(len(pool))
        return int(pool[order[position]])
