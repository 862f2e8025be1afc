"""The README and the learn pages, run as a newcomer would: every command, then every example.

Only the length of training is cut, by overrides that this test adds to ``train`` and ``compare``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "learn").glob("*.md"))]
SHORT = [
    *("--set", "train.steps=2", "--set", "train.validate_every=2", "--set", "train.warmup=0"),
    *("--set", "model.arch=small", "--set", "model.width=4", "--set", "model.depth=2"),
    *("--set", "data.validation_fraction=0.05"),
]
#: score may end with NG rows, an audit with problems; everything else in the pages must end well.
ALLOWED = {"score": {0, 1}, "data": {0, 1}}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def examples(page: Path) -> list[tuple[str, str | None]]:
    """The Python blocks, each with the text block right below it, if any: what it prints."""
    text = page.read_text(encoding="utf-8")
    block = r"^```python\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?"
    found = re.findall(block, text, flags=re.MULTILINE | re.DOTALL)
    return [(example, stated or None) for example, stated in found]


def commands(page: Path) -> list[list[str]]:
    """The shell lines of a page as words, without comments."""
    lines = "\n".join(blocks(page, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """One command as written, globs spread, training shortened."""
    verb = words[1]
    arguments = []
    for word in words[1:]:
        spread = (
            sorted(str(p.relative_to(folder)) for p in folder.glob(word)) if "*" in word else []
        )
        arguments += spread or [word]
    if verb in ("train", "compare"):
        arguments += SHORT
    return subprocess.run(
        [sys.executable, "-m", "anomaly_u2net", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_example_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [words for words in commands(page) if words[0] == "anomaly-u2net"]
    assert ours
    for words in ours:
        done = run(words, tmp_path)
        assert done.returncode in ALLOWED.get(words[1], {0}), f"{shlex.join(words)}\n{done.stderr}"
    for example, stated in examples(page):
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if stated is None:
            assert "(96, 96)" in done.stdout  # the size of an image of the sample
        else:
            assert done.stdout == stated


def test_other_commands_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    extras = (ROOT / "pyproject.toml").read_text()
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for words in commands(page):
            if words[0] == "make":
                assert words[1] in targets
            elif words[0] == "pip":
                assert all(
                    f"\n{extra} = [" in extras for extra in re.findall(r"\[(\w+)\]", words[-1])
                )
            else:
                assert words[0] == "anomaly-u2net", f"{page.name}: {words} is run by no test"
