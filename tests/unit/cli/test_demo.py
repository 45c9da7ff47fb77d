"""``smallmind demo``, on a tiny model."""

from __future__ import annotations

import urllib.request

import pytest

from smallmind import Phase
from smallmind._cli.commands import demo as command
from smallmind._cli.demo_views import chosen_samples, event_grid
from smallmind._cli.rendering import plain_grid
from tiny_models import TinyModel, write_tiny_model


def test_it_streams_an_answer_and_shows_what_was_observed(cli):
    ran = cli("demo", "--model", "MODEL", "--max-tokens", "5", "--prompt", "Who?")
    assert ran.exit_code == 0
    for word in (
        *("> Who?", "Time ledger", "load: weights", "attributed", "time to first token"),
        *("prefill", "decode", "tok/s", "KV cache", "process (RSS)", "stop reason", "MAX_TOKENS"),
        *("request id", "session id", "trace id", "token generated", "inference stopped"),
        *("smallmind_requests_total", "smallmind demo --serve"),
        *(phase.value for phase in Phase),
    ):
        assert word in ran.stdout, word
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""


def test_a_model_without_a_chat_format_continues_a_text(cli, tmp_path):
    path = write_tiny_model(tmp_path / "base.gguf", TinyModel("llama", chat_template=None))
    ran = cli("demo", "--model", str(path), "--max-tokens", "3")
    assert ran.exit_code == 0
    assert "> Photosynthesis is" in ran.stdout


def test_serve_keeps_the_endpoint_up_until_the_token_is_cancelled(cli, monkeypatch):
    pages = []
    keep_up = command._keep_up

    def scrape(screen, server, token):
        with urllib.request.urlopen(server.url, timeout=10) as answer:  # noqa: S310 - ours
            pages.append(answer.read().decode())
        token.cancel()
        keep_up(screen, server, token)

    monkeypatch.setattr(command, "_keep_up", scrape)
    ran = cli("demo", "--model", "MODEL", "--max-tokens", "3", "--serve")
    assert ran.exit_code == 0
    assert "/metrics is up at http://127.0.0.1:" in ran.stdout
    assert 'smallmind_generated_tokens_total{model="tiny"} 3.0' in pages[0]


@pytest.mark.parametrize("arguments", [("--port", "70000"), ("--max-tokens", "0")])
def test_impossible_options_are_refused(cli, arguments):
    assert cli("demo", "--model", "MODEL", *arguments).exit_code == 2


def test_samples_are_the_telling_ones_that_are_not_zero():
    page = [
        "# HELP smallmind_requests_total x",
        'smallmind_requests_total{reason="ERROR"} 0.0',
        'smallmind_requests_total{reason="COMPLETED"} 1.0',
        'smallmind_requests_total_of_another{reason="COMPLETED"} 1.0',
        'smallmind_request_phase_seconds_total{phase="decode"} 2.0',
        "smallmind_generated_tokens_total{} 3.0",
    ]
    assert chosen_samples(page) == [page[2], page[5], page[4]]


def test_no_events_make_an_empty_grid():
    class Nothing:
        events = ()

    assert plain_grid(event_grid(Nothing())).startswith("Events (0)\n")
