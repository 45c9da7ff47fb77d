"""``smallmind perplexity``."""

from __future__ import annotations

import json
import re

import pytest

import smallmind
from engines import TINY
from tiny_encoders import write_tiny_encoder
from tiny_models import write_tiny_model

TEXT = "the and in the inn, and then the end. " * 8
WINDOW = ("--window", "40", "--stride", "20")


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_the_figures_are_those_of_the_library(cli, tiny_path, text_file):
    ran = cli("perplexity", "MODEL", text_file, *WINDOW)
    with smallmind.load(tiny_path, exporters=()) as engine:
        expected = engine.perplexity(TEXT, window=40, stride=20)
    first, second = ran.stdout.splitlines()
    assert ran.exit_code == 0
    assert first == (
        f"perplexity {expected.perplexity:.4f} ± {expected.standard_error:.4f},"
        f" {expected.bits_per_byte:.4f} bits a byte"
    )
    assert second.startswith(
        f"{expected.tokens} tokens in {expected.windows} windows of 40 every 20; "
    )
    assert re.search(r"[\d.,]+ (s|ms), [\d.,]+ tok/s$", second)
    assert ran.stderr == f"scoring tokens ({expected.tokens})\n"


def test_a_dash_reads_the_text_from_standard_input(cli, text_file):
    from_file = json.loads(cli("perplexity", "MODEL", text_file, "--json", *WINDOW).stdout)
    from_input = json.loads(cli("perplexity", "MODEL", "-", "--json", *WINDOW, stdin=TEXT).stdout)
    assert from_input["perplexity"] == from_file["perplexity"]
    assert from_file["correlation"]["request_id"].startswith("req-")
    assert (from_file["window"], from_file["stride"]) == (40, 20)


def test_a_file_that_cannot_be_read_is_named(cli, tmp_path):
    missing = tmp_path / "nowhere.txt"
    ran = cli("perplexity", "MODEL", str(missing))
    assert ran.exit_code == 2
    assert "nowhere.txt cannot be read" in " ".join(ran.stderr.split())


def test_a_file_that_is_not_utf8_is_refused(cli, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9")
    ran = cli("perplexity", "MODEL", str(path))
    assert ran.exit_code == 2
    assert "not UTF-8" in ran.stderr


def test_a_timeout_stops_it(cli, text_file):
    ran = cli("perplexity", "MODEL", text_file, "--timeout", "0.000001")
    assert ran.exit_code != 0
    assert "CANCELLED_BY_TIMEOUT" in ran.stderr


def test_an_encoder_has_no_perplexity(cli, tmp_path, text_file):
    path = write_tiny_encoder(tmp_path / "encoder.gguf")
    ran = cli("perplexity", str(path), text_file)
    assert ran.exit_code != 0
    assert "MODEL_CANNOT_GENERATE" in ran.stderr


def test_an_encoder_can_be_inspected(cli, tmp_path):
    path = write_tiny_encoder(tmp_path / "encoder.gguf")
    ran = cli("inspect", str(path))
    assert ran.exit_code == 0
    assert "bert" in ran.stdout


def test_the_window_follows_the_context_that_was_asked_for(cli, tmp_path, text_file):
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY)
    ran = cli("perplexity", str(path), text_file, "--context-length", "32", "--json")
    assert json.loads(ran.stdout)["window"] == 32
