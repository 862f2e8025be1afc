"""``anomaly-u2net score`` and ``overlay``: a line's images in, rows and pictures out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.cli.options import Backend
from anomaly_u2net.errors import AnomalyU2NetError, CalibrationError, InputError

if TYPE_CHECKING:
    from rich.progress import Progress

    from anomaly_u2net.inference.segmenter import Segmenter
    from anomaly_u2net.scoring import ScoreInput
    from anomaly_u2net.types import Image, ScoreMap, Verdict

Model = Annotated[Path, typer.Argument(help="A run folder, or a copy of its model files.")]
Images = Annotated[
    list[str] | None, typer.Argument(help="Files, folders or glob patterns.", metavar="IMAGES...")
]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Manifest = Annotated[Path | None, typer.Option(help="CSV with columns path and category.")]
Category = Annotated[str | None, typer.Option(help="The category of all images.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.", show_default="all")]
Style = Annotated[str, typer.Option(help="panel, overlay or heatmap.")]

STYLES = ("panel", "overlay", "heatmap")


def score(
    model: Model,
    images: Images = None,
    out: Out = ...,  # type: ignore[assignment]
    manifest: Manifest = None,
    category: Category = None,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Also write a panel per image, to OUT/overlays.")
    ] = False,
    backend: Backend = "auto",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """One OK/REVIEW/NG/ERROR row per image, as CSV and Parquet. Run again to continue.

    Exit code: 0 all OK, 1 NG or REVIEW present, 2 errors present.
    """
    from anomaly_u2net.scoring import exit_code, score_line, summarise

    segmenter, inputs = _prepare(model, images, out, manifest, category, backend, threads)
    pictures = Pictures(segmenter, inputs, out / "overlays", "panel") if overlays else None
    rows, known = [], 0
    write = pictures.write if pictures else None
    with show.progress() as bar, closing(score_line(segmenter, inputs, out, overlay=write)) as line:
        task = bar.add_task("scoring", total=len(inputs), note="")
        for item, (row, fresh) in zip(inputs, line, strict=True):
            rows.append(row)
            known += not fresh
            if pictures and not fresh and not pictures.path(item).is_file():
                pictures.draw(item)
            bar.advance(task)
            if row.error:
                _say_error(bar, row.path, row.error)
    summary = summarise(rows)
    fields = asdict(summary) | {"from_earlier_runs": known}
    files = {"csv": str(out / "rows.csv"), "parquet": str(out / "rows.parquet")}
    if as_json:
        show.print_json({"summary": fields, **files, "rows": [asdict(row) for row in rows]})
    else:
        show.print_fields(
            {name: value for name, value in fields.items() if value or name != "review"}
        )
        show.print_fields(files)
    raise typer.Exit(exit_code(summary))


def overlay(
    model: Model,
    images: Images = None,
    out: Out = ...,  # type: ignore[assignment]
    manifest: Manifest = None,
    category: Category = None,
    style: Style = "panel",
    backend: Backend = "auto",
    threads: Threads = None,
) -> None:
    """A heatmap overlay per image, as PNG, on one absolute scale tied to the threshold.

    Exit code: 0 all written, 2 some images could not be used (named on stderr).
    """
    segmenter, inputs = _prepare(model, images, out, manifest, category, backend, threads)
    pictures = Pictures(segmenter, inputs, out, style)
    failed = 0
    with show.progress() as bar:
        for item in bar.track(inputs, task_id=bar.add_task("drawing", total=len(inputs), note="")):
            try:
                pictures.draw(item)
            except AnomalyU2NetError as error:
                failed += 1
                _say_error(bar, str(item.path), str(error))
    show.print_fields({"written": len(inputs) - failed, "failed": failed, "folder": out})
    raise typer.Exit(2 if failed else 0)


def _say_error(bar: Progress, path: str, text: str) -> None:
    """One line on stderr above the bar, with the path once."""
    line = text if path in text else f"{path}: {text}"
    line = line.encode("utf-8", "backslashreplace").decode()
    bar.console.print(f"ERROR {line}", markup=False, highlight=False, soft_wrap=True)


def _prepare(
    model: Path,
    images: list[str] | None,
    out: Path,
    manifest: Path | None,
    category: str | None,
    backend: str,
    threads: int | None,
) -> tuple[Segmenter, list[ScoreInput]]:
    from anomaly_u2net.inference.segmenter import Segmenter
    from anomaly_u2net.scoring import collect_inputs

    if not images and manifest is None:
        raise InputError("nothing to score: name files, folders, patterns, or a --manifest")
    segmenter = Segmenter.load(model, backend=backend, threads=threads)  # type: ignore[arg-type]
    if segmenter.calibration is None:
        raise CalibrationError(
            f"{model}: no calibration.json here, so nothing can be judged: run "
            "'anomaly-u2net calibrate' on the run folder, and copy calibration.json with the model"
        )
    inputs = collect_inputs(
        images or [],
        manifest=manifest,
        category=category,
        known_categories=segmenter.categories,
        out=out,
    )
    return segmenter, inputs


class Pictures:
    """The pictures of a line's images in one folder, each under a name of its own."""

    def __init__(
        self, segmenter: Segmenter, inputs: list[ScoreInput], folder: Path, style: str
    ) -> None:
        from anomaly_u2net.visual import claim_names

        if style not in STYLES:
            raise InputError(f"--style {style!r}: expected one of {', '.join(STYLES)}")
        self.segmenter, self.folder, self.style = segmenter, folder, style
        self.names = claim_names(folder, [item.path for item in inputs])

    def path(self, item: ScoreInput) -> Path:
        """Where the picture of ``item`` lies, or will lie."""
        return self.folder / self.names[item.path]

    def draw(self, item: ScoreInput) -> None:
        """Read, predict, judge and write one image; raises what any of them raises."""
        from anomaly_u2net.data.images import read_image

        image = read_image(item.path)
        score_map = self.segmenter.predict(image)
        verdict = self.segmenter.judge(score_map, category=item.category)
        self.write(item, image, score_map, verdict)

    def write(self, item: ScoreInput, image: Image, score_map: ScoreMap, verdict: Verdict) -> None:
        """Write the picture of an image that is predicted and judged already."""
        from anomaly_u2net import visual

        threshold = verdict.pixel_threshold
        if self.style == "heatmap":
            picture = visual.heatmap(score_map, threshold=threshold)
        elif self.style == "overlay":
            picture = visual.overlay(image, score_map, threshold=threshold)
        else:
            title = f"{item.path.name}  {verdict.decision}  {verdict.image_score:.4f}"
            picture = visual.panel(image, score_map, threshold=threshold, title=title)
        visual.write_png(self.path(item), picture)
