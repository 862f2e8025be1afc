"""``anomaly-u2net score`` and ``overlay``: a line's images in, rows and pictures out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_u2net.cli import show
from anomaly_u2net.errors import AnomalyU2NetError, InputError

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
Backend = Annotated[str, typer.Option(help="auto, onnx or torch.")]
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
    """One OK/NG/ERROR row per image, as CSV and Parquet. Run again to continue.

    Exit code: 0 all OK, 1 NG present, 2 errors present.
    """
    from anomaly_u2net.scoring import exit_code, score_line, summarise

    segmenter, inputs = _prepare(model, images, out, manifest, category, backend, threads)
    draw = _writer(inputs, out / "overlays", "panel") if overlays else None
    rows, known = [], 0
    with show.progress() as bar, closing(score_line(segmenter, inputs, out, overlay=draw)) as line:
        task = bar.add_task("scoring", total=len(inputs), note="")
        for row, fresh in line:
            rows.append(row)
            known += not fresh
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
    from anomaly_u2net.data.images import read_image

    segmenter, inputs = _prepare(model, images, out, manifest, category, backend, threads)
    write = _writer(inputs, out, style)
    failed = 0
    with show.progress() as bar:
        for item in bar.track(inputs, task_id=bar.add_task("drawing", total=len(inputs), note="")):
            try:
                image = read_image(item.path)
                score_map = segmenter.predict(image)
                verdict = segmenter.judge(score_map, category=item.category)
                write(item, image, score_map, verdict)
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
    inputs = collect_inputs(
        images or [],
        manifest=manifest,
        category=category,
        known_categories=segmenter.categories,
        out=out,
    )
    return segmenter, inputs


def _writer(inputs: list[ScoreInput], folder: Path, style: str) -> Any:
    """A function that writes the picture of one input under a name of its own in ``folder``."""
    from anomaly_u2net import visual

    if style not in STYLES:
        raise InputError(f"--style {style!r}: expected one of {', '.join(STYLES)}")
    paths = [item.path for item in inputs]
    names = dict(zip(paths, visual.overlay_names(paths), strict=True))

    def write(item: ScoreInput, image: Image, score_map: ScoreMap, verdict: Verdict) -> None:
        threshold = verdict.pixel_threshold
        if style == "heatmap":
            picture = visual.heatmap(score_map, threshold=threshold)
        elif style == "overlay":
            picture = visual.overlay(image, score_map, threshold=threshold)
        else:
            title = f"{item.path.name}  {verdict.decision}  {verdict.image_score:.4f}"
            picture = visual.panel(image, score_map, threshold=threshold, title=title)
        visual.write_png(folder / names[item.path], picture)

    return write
