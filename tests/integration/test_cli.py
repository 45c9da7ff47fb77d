"""The command line as a process: streams, signals, terminals, exit codes, on the real model."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from junitparser import JUnitXml

import smallmind

pytestmark = pytest.mark.model

TIMEOUT_S = 120.0
STORY = ("Once upon a time, in a village by the sea,", "-n", "2000", "-t", "0")
CONTROL_SEQUENCE = re.compile(rb"\x1b")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "smallmind", *map(str, arguments)]


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), capture_output=True, timeout=TIMEOUT_S, check=False, **options
    )


@pytest.fixture
def started() -> Iterator[object]:
    """Starts ``smallmind`` in the background, and sees to it that it ends."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(command(*arguments), **streams)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_some(descriptor: int) -> bytes:
    """What comes next; fails when nothing does in time."""
    ready, _, _ = select.select([descriptor], [], [], TIMEOUT_S)
    assert ready, "no output in time"
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the end of a terminal like this
        return b""


def read_until(descriptor: int, pattern: str) -> str:
    """What comes up to ``pattern``."""
    seen = b""
    while not re.search(pattern.encode(), seen):
        some = read_some(descriptor)
        assert some, f"the output ended before {pattern!r}: {seen.decode(errors='replace')}"
        seen += some
    return seen.decode(errors="replace")


# -- pipes ----------------------------------------------------------------------------------


def test_a_pipe_gets_the_text_and_nothing_else(smollm2_path):
    ran = run("generate", smollm2_path, "The capital of France is", "-n", "4", "-t", "0")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.startswith(b" Paris")
    assert ran.stdout.endswith(b"\n")


def test_json_agrees_with_the_sdk(smollm2_path):
    ran = run("generate", smollm2_path, "The capital of France is", "-n", "8", "-t", "0", "--json")
    document = json.loads(ran.stdout)
    with smallmind.load(smollm2_path, exporters=()) as engine:
        result = engine.generate("The capital of France is", max_tokens=8, temperature=0.0)
    assert document["token_ids"] == list(result.token_ids)
    assert document["model_fingerprint"] == result.model_fingerprint
    assert sum(document["timings"]["ledger"].values()) == pytest.approx(
        document["timings"]["total_s"]
    )
    assert document["timings"]["attributed_share"] >= 0.98


def test_a_reader_that_goes_away_ends_it(smollm2_path, started):
    process = started("generate", smollm2_path, *STORY)
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 141
    assert b"Traceback" not in process.stderr.read()


def test_the_demo_is_plain_text_through_a_pipe(smollm2_path):
    del smollm2_path  # it is in the cache now
    ran = run("demo", "--max-tokens", "24")
    text = ran.stdout.decode()
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert not CONTROL_SEQUENCE.search(ran.stdout)
    assert "Photosynthesis is" in text
    for word in ("SHA-256 ok", "Time ledger", "time to first token", "request id", "KV cache"):
        assert word in text
    share = float(re.search(r"time attributed +([\d.]+) %", text)[1])
    assert share >= 98.0


def test_the_demo_serves_until_it_is_interrupted(smollm2_path, started):
    del smollm2_path
    process = started("demo", "--max-tokens", "8", "--serve")
    shown = read_until(process.stdout.fileno(), r"/metrics is up at \S+")
    url = re.search(r"http://\S+", shown)[0]
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        page = answer.read().decode()
    assert 'smallmind_generated_tokens_total{model="smollm2"} 8.0' in page
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0


GOLDEN = ("--only", "golden-logprobs")


@pytest.fixture
def golden(golden_dir, tmp_path):
    """Writes a small part of a golden file, its log-probabilities off by ``error``."""

    def write(error: float) -> Path:
        whole = json.loads((golden_dir / "smollm2-float32.json").read_text(encoding="utf-8"))
        case = dict(whole["logprobs"][0])
        case["top10_last"] = [[token, p + error] for token, p in case["top10_last"]]
        part = {**whole, "logprobs": [case], "greedy": []}
        del part["perplexity"]
        path = tmp_path / "golden.json"
        path.write_text(json.dumps(part), encoding="utf-8")
        return path

    return write


def test_validate_holds_a_reference(smollm2_path, golden):
    ran = run("validate", smollm2_path, "--golden", golden(0.0), *GOLDEN, "--json", "-")
    document = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert document["passed"] is True
    logprobs = document["checks"][1]
    assert (logprobs["name"], logprobs["status"]) == ("golden-logprobs", "passed")
    assert logprobs["figures"][0]["value"] <= logprobs["figures"][0]["at_most"]


def test_validate_sees_a_reference_that_differs(smollm2_path, golden):
    ran = run("validate", smollm2_path, "--golden", golden(0.5), *GOLDEN)
    assert ran.returncode == 1
    assert b"FAIL  golden-logprobs" in ran.stdout


def test_ctrl_c_in_a_validation_keeps_the_report_so_far(smollm2_path, started, tmp_path):
    process = started("validate", smollm2_path, "--quick", "--junit", tmp_path / "report.xml")
    read_until(process.stdout.fileno(), "ok +special-tokens")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith(b"interrupted: ")
    (suite,) = JUnitXml.fromfile(str(tmp_path / "report.xml"))
    assert suite.failures == suite.errors == 0
    assert [case.name for case in suite][-1] == "speed"


def test_validate_refuses_the_golden_file_of_another_model(smollm2_path, golden_dir):
    ran = run("validate", smollm2_path, "--golden", golden_dir / "gemma3.json")
    assert ran.returncode == 2
    assert ran.stdout.splitlines()[1:] == []
    assert ran.stderr.endswith(b"[GOLDEN_INVALID]\n")


def test_inspect_needs_no_weights(smollm2_path):
    begin = time.perf_counter()
    ran = run("inspect", smollm2_path, "--json")
    spent = time.perf_counter() - begin
    document = json.loads(ran.stdout)
    assert document["parameters"] == 134_515_008
    assert {each["qtype"] for each in document["quantisation"]} == {"Q4_1", "Q8_0", "F32"}
    # numbers of 16 bits, as the compiled kernels keep them
    assert document["memory"]["kv_bytes_per_token"] == 30 * 3 * (64 + 64) * 2
    assert spent < 30.0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell):
    variables = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = run("--show-completion", shell, env=variables)
    assert ran.returncode == 0
    assert b"_SMALLMIND_COMPLETE" in ran.stdout


# -- signals --------------------------------------------------------------------------------


def test_ctrl_c_stops_within_a_token_and_keeps_the_text(smollm2_path, started):
    process = started("generate", smollm2_path, *STORY)
    first = read_some(process.stdout.fileno())
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    rest, err = process.communicate(timeout=TIMEOUT_S)
    spent = time.perf_counter() - begin
    assert process.returncode == 130
    assert re.fullmatch(rb"stopped after \d+ tokens: CANCELLED_BY_CALLER\n", err)
    tokens = int(re.search(rb"\d+", err)[0])
    assert 0 < tokens < 200
    assert (first + rest).endswith(b"\n")
    assert len((first + rest).strip()) > 0
    assert spent < 20.0


def test_ctrl_c_while_the_model_loads_is_told_as_that(smollm2_path, started):
    keyboard, screen = os.openpty()
    process = started("generate", smollm2_path, *STORY, stderr=screen)
    os.close(screen)
    read_until(keyboard, "preparing weights")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    os.close(keyboard)
    assert process.returncode == 130
    assert out == b""


# -- terminals ------------------------------------------------------------------------------


@pytest.fixture
def terminal(started) -> Iterator[object]:
    """Starts ``smallmind`` on a terminal of its own, with a keyboard that reaches it."""
    opened: list[int] = []

    def start(*arguments: str | Path) -> tuple[subprocess.Popen[bytes], int]:
        import fcntl
        import termios

        keyboard, screen = os.openpty()
        opened.append(keyboard)
        process = started(
            *arguments,
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        )
        os.close(screen)
        return process, keyboard

    yield start
    for descriptor in opened:
        os.close(descriptor)


def test_a_terminal_gets_colours_and_bars(smollm2_path, terminal):
    del smollm2_path
    process, keyboard = terminal("demo", "--max-tokens", "8")
    shown = read_until(keyboard, "make demo ARGS=--serve")
    assert process.wait(TIMEOUT_S) == 0
    assert "\x1b[1m" in shown
    assert "preparing weights" in shown
    assert "█" in shown


def test_a_chat_on_a_terminal_can_be_stopped_and_goes_on(smollm2_path, terminal):
    process, keyboard = terminal("chat", smollm2_path, "--temperature", "0", "--seed", "1")
    read_until(keyboard, ">>> ")
    os.write(keyboard, b"Tell me a long story about the sea.\n")
    read_until(keyboard, r"sea\.\s+\S+ \S+")  # the echo, then the first words of the answer
    os.write(keyboard, b"\x03")
    read_until(keyboard, r"stopped: CANCELLED_BY_CALLER[\s\S]*>>> ")
    os.write(keyboard, b"/stats\n")
    assert "CANCELLED_BY_CALLER" in read_until(keyboard, r"trace id[\s\S]*>>> ")
    os.write(keyboard, b"/quit\n")
    assert process.wait(TIMEOUT_S) == 0
