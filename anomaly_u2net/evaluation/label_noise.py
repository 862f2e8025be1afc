"""Where masks and models disagree: images that a model never trained on, most doubtful first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np

from anomaly_u2net.data.audit import Finding, Item
from anomaly_u2net.data.audit.findings import share
from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.split_files import listed_files
from anomaly_u2net.errors import DatasetError
from anomaly_u2net.evaluation.predictions import predict_record
from anomaly_u2net.evaluation.runs import run_recipe, run_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.metrics.regions import label_regions
from anomaly_u2net.recipe.protocol import parse_protocol
from anomaly_u2net.types import Image, ImageRecord, Mask, ScoreMap, Split
from anomaly_u2net.visual import panel

Kind: TypeAlias = Literal["missed_mask", "unseen_defect", "more_than_marked"]

#: What of a run is its models' opinion on new images. Test images are left out: a test set that was
#: cleaned by a model favours that model. Only of a protocol's fold (full-fold1of5) is the test judged
#: too: over the folds it is every image once, so there is no other.
HELD_OUT: tuple[Split, ...] = ("validation", "calibration")
#: A peak is the highest mean of so many pixels squared: one pixel is no opinion.
PEAK = 5
#: Pixels around a mask, as a share of the image's shorter side, that may be its soft border.
MARGIN = 0.02
#: From here on the model says the opposite of the label.
OPPOSITE = 0.5

SAY: dict[Kind, tuple[str, str]] = {
    "missed_mask": (
        "images labelled good in which models that never saw them find a defect",
        "Look at the pictures: label and mask what is a defect; the rest are hard good images.",
    ),
    "unseen_defect": (
        "defect images in which models that never saw them find nothing under the mask",
        "Look at the pictures: is the mask in the right place, the label right, the defect visible?",
    ),
    "more_than_marked": (
        "defect images in which models that never saw them find a defect away from the mask",
        "Look at the pictures: was a second defect not marked, or the mask drawn elsewhere?",
    ),
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """One image and what speaks against its label.

    strength: 0..1, the mean over the R runs that held the image out of how sure each is. Of
    ``missed_mask`` that is the peak of its map; of ``more_than_marked`` the peak of the regions
    above `OPPOSITE` that do not touch the mask, 0 without one; of ``unseen_defect`` 1 less the peak under the
    mask. by_run: (R,) these values. runs: (R,) their folders.
    """

    record: ImageRecord
    kind: Kind
    strength: float
    by_run: tuple[float, ...]
    runs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Doubts:
    """Every image that was judged, and the doubts about them by kind, the strongest first.

    images: how many training images the runs have, held out or not; of folds, all images.
    """

    judged: dict[Path, ImageRecord]
    doubts: list[Doubt]
    images: int

    def of(self, kind: Kind) -> list[Doubt]:
        return [doubt for doubt in self.doubts if doubt.kind == kind]

    def findings(self) -> list[Finding]:
        """How many images were judged, and a warning for each kind that there is, its images ranked."""
        good = sum(not record.defective for record in self.judged.values())
        left = self.images - len(self.judged)
        found = [
            Finding(
                "info", "labels_judged", "",
                f"{share(len(self.judged), self.images)} training images were judged, by runs that "
                "held them out",
                f"Nothing is known of the labels of the other {left}: give more runs, of other seeds "
                "or folds." if left else "",
                numbers={"judged": len(self.judged), "images": self.images},
            )
        ]  # fmt: skip
        for kind, (what, advice) in SAY.items():
            own = self.of(kind)
            judged = good if kind == "missed_mask" else len(self.judged) - good
            items = tuple(
                Item(
                    tuple(path for path in (d.record.path, d.record.mask) if path is not None),
                    f"{d.record.label}, {d.strength:.2f} of 1 sure "
                    f"({len(d.runs)} run{'s' if len(d.runs) > 1 else ''})",
                    d.strength,
                )
                for d in own
            )
            if items:
                text = f"{share(len(own), judged)} {what}"
                found.append(Finding("warning", kind, "", text, advice, items, {"judged": judged}))
        return found


def label_doubts(
    runs: Sequence[str | Path],
    *,
    root: str | Path | None = None,
    on_image: Callable[[ImageRecord], None] | None = None,
) -> Doubts:
    """Doubts about labels from models that never saw the images, of `OPPOSITE` strength or more.

    Each run judges its own held-out images only (`held_out`), never what it trained on. Runs with
    other seeds or folds hold out other images, so several runs judge more of them. root: where the
    images lie now, if not where the recipes say; of a run on several categories it may be the folder
    of one.

    Raises `DatasetError` without runs and when they held nothing out, and as `Segmenter.load` and
    `read_split` do.
    """
    strengths: dict[Path, dict[Kind, list[float]]] = defaultdict(lambda: defaultdict(list))
    judges: dict[Path, list[Path]] = defaultdict(list)
    judged: dict[Path, ImageRecord] = {}
    files: set[str] = set()
    for run in map(Path, runs):
        held = held_out(run, root=root)
        files |= _training_files(run, root)
        segmenter = Segmenter.load(run, calibrated=False)
        for record in held:
            one = predict_record(segmenter, record)
            for kind, strength in _strengths(one.score_map, one.mask).items():
                strengths[record.path][kind].append(strength)
            judged[record.path] = record
            judges[record.path].append(run)
            if on_image is not None:
                on_image(record)
    if not judged:
        raise DatasetError(
            "no image to judge labels on: expected runs that held images out of training (split "
            "validation or calibration in split.csv); train with data.validation_fraction above 0, or with "
            "data.validation_fold"
        )
    doubts = [
        Doubt(judged[path], kind, sum(own) / len(own), tuple(own), tuple(judges[path]))
        for path, kinds in strengths.items()
        for kind, own in kinds.items()
    ]
    strong = [doubt for doubt in doubts if doubt.strength >= OPPOSITE]
    strong.sort(key=lambda doubt: (-doubt.strength, doubt.record.path))
    return Doubts(judged, strong, len(files))


def held_out(run: str | Path, *, root: str | Path | None = None) -> list[ImageRecord]:
    """The images that a run neither trained on nor tests; of a fold (``full-fold1of5``) its test too."""
    splits: tuple[Split, ...] = (*HELD_OUT, "test") if _is_protocol_fold(run) else HELD_OUT
    category = _one_category(run, root)
    if root is None or category is None:
        return [r for split in splits for r in run_records(run, split, data_root=root)]
    above = Path(root).resolve().parent
    held = [
        record
        for split in splits
        for record in run_records(run, split, data_root=above, category=category)
    ]

    def here(path: Path) -> Path:
        return Path(root, *path.relative_to(above).parts[1:])

    return [replace(r, path=here(r.path), mask=here(r.mask) if r.mask else None) for r in held]


def _is_protocol_fold(run: str | Path) -> bool:
    return parse_protocol(run_recipe(run).data.protocol).kind == "fold"


def _one_category(run: str | Path, root: str | Path | None) -> str | None:
    """The category whose folder ``root`` is, where the paths of the run's split.csv begin above it."""
    if root is None:
        return None
    folder = Path(root).resolve()
    rows = listed_files(Path(run) / "split.csv")
    own = [
        file
        for file, category, _ in rows
        if file.startswith(f"{category}/") and category == folder.name
    ]
    return folder.name if own and not (folder / own[0]).is_file() else None


def _training_files(run: str | Path, root: str | Path | None) -> set[str]:
    """What a run, or another seed or fold of it, trains on: all that may be judged."""
    fold, one = _is_protocol_fold(run), _one_category(run, root)
    return {
        file
        for file, category, split in listed_files(Path(run) / "split.csv")
        if (fold or split != "test") and one in (None, category)
    }


def doubt_picture(doubt: Doubt) -> Image:
    """Image, mean map of the runs that judged it, and mask in one picture, uint8 (h, w, 3)."""
    sample = read_sample(doubt.record)
    maps = [Segmenter.load(run, calibrated=False).predict(sample.image) for run in doubt.runs]
    return panel(
        sample.image,
        np.mean(maps, axis=0).astype(np.float32),
        threshold=OPPOSITE,
        mask=sample.mask if doubt.record.defective else None,
        title=f"{doubt.record.label}: {doubt.record.path.name}, {doubt.kind} {doubt.strength:.2f}",
    )


def _strengths(score_map: ScoreMap, mask: Mask) -> dict[Kind, float]:
    """How sure one map is of each kind of doubt that the label allows."""
    smooth = cv2.blur(score_map, (PEAK, PEAK))
    if not mask.any():
        return {"missed_mask": float(smooth.max())}
    margin = max(PEAK, round(MARGIN * min(mask.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    near = cv2.dilate(mask.astype(np.uint8), disc).astype(bool)
    found: dict[Kind, float] = {"unseen_defect": 1 - float(score_map[mask].max())}
    labels, _ = label_regions(smooth >= OPPOSITE)
    # A region that runs on from the mask is no second one.
    apart = (labels > 0) & ~np.isin(labels, np.unique(labels[near]))
    found["more_than_marked"] = float(smooth[apart].max(initial=0))
    return found
