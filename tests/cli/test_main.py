"""The frame of the command line: help, exit codes, errors as one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import anomaly_u2net
from anomaly_u2net.cli import main as frame
from anomaly_u2net.errors import InputError

Cli = Callable[..., tuple[int, str, str]]
VERBS = [
    [],
    ["train"], ["compare"], ["benchmark"], ["evaluate"], ["calibrate"], ["score"], ["overlay"],
    ["recipe"], ["recipe", "list"], ["recipe", "show"], ["recipe", "check"],
    ["data"], ["data", "demo"], ["data", "cards"], ["data", "count"], ["data", "check"],
    ["data", "split"], ["data", "publish"], ["data", "synthesize"], ["data", "audit"],
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help(cli: Cli, verb: list[str]) -> None:
    code, out, err = cli(*verb, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: {' '.join(['anomaly-u2net', *verb])}" in out
    assert out == cli(*verb, "-h")[1]


def test_every_verb_is_tested_here() -> None:
    groups = {group.name: group.typer_instance for group in frame.app.registered_groups}
    named = [[command.name] for command in frame.app.registered_commands]
    for name, group in groups.items():
        named += [[name], *([name, command.name] for command in group.registered_commands)]
    assert sorted(named) == sorted(VERBS[1:])


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"anomaly-u2net {anomaly_u2net.__version__}\n", "")


def test_no_arguments_show_the_help(cli: Cli) -> None:
    code, out, err = cli()
    assert "Usage: " in out + err
    assert code in (0, 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "demo", "--stesp", "3"], "No such option"),
        (["train"], "Missing argument"),
        (["score", "run", "a.png"], "Missing option"),
        (["train", "demo", "--max-minutes", "soon"], "Invalid value for '--max-minutes'"),
        (["recipe", "chekc", "demo"], "No such command 'chekc'"),
        (["evaluate", "run", "more"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments_exit_3(cli: Cli, arguments: list[str], text: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (3, "")
    assert text in " ".join(err.split())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("expected a, got b"), 3, "anomaly-u2net: expected a, got b\n"),
        (PermissionError(13, "denied", "x"), 3, "anomaly-u2net: [Errno 13] denied: 'x'\n"),
        (KeyboardInterrupt(), 130, "anomaly-u2net: interrupted\n"),
    ],
)
def test_errors_are_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("anomaly_u2net.data.cards.list_cards", fail)
    assert cli("data", "cards") == (code, "", text)


def test_a_fault_of_ours_is_shown_whole_and_is_not_ng(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("anomaly_u2net.data.cards.list_cards", fail)
    code, out, err = cli("data", "cards")
    assert (code, out) == (3, "")
    assert "Traceback" in err
    assert "ZeroDivisionError: a bug" in err


def test_as_a_module_and_as_a_script(single_thread: dict[str, str]) -> None:
    script = Path(sys.executable).with_name("anomaly-u2net")
    commands = [[sys.executable, "-m", "anomaly_u2net"]]
    if script.is_file():  # not there when the package runs from a bare checkout
        commands.append([str(script)])
    for command in commands:
        done = subprocess.run(
            [*command, "recipe", "check", "no_such"],
            env=single_thread, timeout=60, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("anomaly-u2net: no recipe 'no_such': expected a YAML file")
