"""The page docs/learn/anomalib.md, run as a newcomer would, with a training of two steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("anomalib")
torch = pytest.importorskip("torch")

from anomalib.cli.cli import AnomalibCLI  # noqa: E402

from anomaly_u2net.cli.main import app  # noqa: E402
from anomaly_u2net.data.demo import write_demo  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "learn" / "anomalib.md"
SHORT = ["--model.overrides", "[train.steps=2, train.validate_every=2]"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
@pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator")
def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    write_demo("demo_data")
    ran = []
    for language, text in blocks():
        if language == "yaml":
            Path("brick.yaml").write_text(text, encoding="utf-8")
        elif language == "py":
            exec(text, {})
        elif language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(line)
                ran.append(words[0])
                if program == "anomalib":
                    AnomalibCLI([*words, *(SHORT if words[0] == "train" else []), *QUIET])
                else:
                    done = CliRunner().invoke(app, words)
                    assert done.exit_code in ({0, 1} if words[0] == "score" else {0}), done.output
    assert ran == ["train", "test", "predict", "export", "evaluate", "score"]
    drawn = Path("results/U2Net/latest/images/hole")
    assert len(list(drawn.glob("*.png"))) == 4
    assert Path("results/weights/onnx/model.onnx").is_file()
