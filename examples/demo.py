"""The whole road on the built-in sample: train, calibrate, evaluate, score a line, draw overlays.

usage: python examples/demo.py OUT
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

from anomaly_u2net.data.images import image_files

#: What a folder that this script may delete holds.
MARKER = "made_by_demo.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write; made anew")
    out = parser.parse_args().out
    if (out / MARKER).is_file():
        shutil.rmtree(out)
    elif out.exists() and any(out.iterdir()):
        sys.exit(f"{out} holds something that is not a demo: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by examples/demo.py; the next demo here removes this folder\n")
    started = time.monotonic()
    data, run, line = out / "data", out / "run", out / "line"
    verb("data", "demo", data)
    verb("train", "demo", "--data-root", data, "--out", run)
    verb("calibrate", run)
    verb("evaluate", run)
    make_line(data, line)
    code = verb("score", run, line, "--out", out / "scores", ok=(2,))
    assert code == 2, "the line holds broken files, so score must exit with 2"
    chosen = [
        path
        for category in sorted(path for path in data.iterdir() if path.is_dir())
        for defect in sorted((category / "test").iterdir())
        for path in image_files(defect)[:1]
    ]
    verb("overlay", run, *chosen, "--out", out / "overlays")
    print(f"\nDone in {time.monotonic() - started:.0f} s. Look at:")
    for what, path in {
        "the sample data set": data,
        "the trained model (copy it to a line computer)": run,
        "predictions while training": run / "samples",
        "the numbers": run / "evaluation" / "test" / "evaluation.csv",
        "the thresholds and what they promise": run / "calibration.json",
        "one row per image of the line, broken files too": out / "scores" / "rows.csv",
        "heatmap overlays": out / "overlays",
    }.items():
        print(f"  {path}  {what}")


def verb(*words: object, ok: tuple[int, ...] = (0,)) -> int:
    """Print and run one anomaly-u2net command; stop the demo when it fails."""
    arguments = [str(word) for word in words]
    print(f"\n$ anomaly-u2net {shlex.join(arguments)}", flush=True)
    code = subprocess.run(
        [sys.executable, "-m", "anomaly_u2net", *arguments], check=False
    ).returncode
    if code not in ok:
        sys.exit(f"the command above failed with exit code {code}")
    return code


def make_line(data: Path, line: Path) -> None:
    """A folder as an inspection line might leave it: test images, and four broken or odd files."""
    for category in sorted(path for path in data.iterdir() if path.is_dir()):
        for label in sorted((category / "test").iterdir()):
            for path in image_files(label):
                target = line / category.name / f"{label.name}_{path.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    sample = sorted((line / "brick").glob("good_*.png"))[0]
    (line / "brick" / "truncated.png").write_bytes(sample.read_bytes()[:2000])
    (line / "brick" / "notes.png").write_text("remember to clean the lens\n")
    gray = cv2.imread(str(sample), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(line / "brick" / "sixteen_bit.png"), gray.astype(np.uint16) * 257)
    (line / "brick" / "huge_header.png").write_bytes(huge_png())


def huge_png(side: int = 30_000) -> bytes:
    """A PNG of a few bytes whose header promises side × side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


if __name__ == "__main__":
    main()
