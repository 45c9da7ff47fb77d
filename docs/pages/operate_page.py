"""Writes the page of operating questions from the tables of dashboards and alerts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from boards import ALERTS, BOARDS, RECORDINGS, Alert, Board, Panel


@dataclass(frozen=True, slots=True)
class Question:
    """What an operator asks.

    Attributes:
        asked: the question.
        answer: how to read the panels, and what to do.
        panels: board and title of each panel to look at.
        recorded: names of recorded series to look at.
    """

    asked: str
    answer: str
    panels: tuple[tuple[str, str], ...] = ()
    recorded: tuple[str, ...] = ()


_INTRODUCTION: Final = """\
# Operate smallmind

<!-- Made by docs/generate.py: change its tables (pages, dashboards/boards), then run it again. -->

Questions that come up when smallmind serves people, each with the panel that answers it and its
query. [dashboards/](../dashboards/README.md) has the dashboards, and tells how to set them up. The
queries here are those of the panels for all models and instances; the tests run each of them with
a real Prometheus over real engines.

One request has the same numbers without any of this: `result.timings.ledger` tells where its time
went, `result.correlation.trace_id` leads to its trace, `result.stop_reason` is one of the
[reason codes](reference/reason-codes.md).
"""

_DRAWN: Final = """\
These pictures are no screenshots of Grafana. `dashboards/draw.py` drew them with matplotlib, panel
by panel, from what a real Prometheus answered to the panels' own queries while
`tests/benchmarks/dashboard_pictures.py` ran: SmolLM2 135M under load from three callers, and four
engines over a tiny model that run into every trouble halfway. The machine was busy with other work
at that time, so take the layout from them, not the speed; what the machine can at most was
measured under that load too, which is why shares of it pass 100 %.
"""

QUESTIONS: Final[tuple[Question, ...]] = (
    Question(
        "Is it up, and are all worker processes there?",
        "The number is how many processes the scraped instances show together. None at all raises"
        " `SmallMindAbsent`.",
        (("smallmind-overview", "Processes"),),
    ),
    Question(
        "Do we keep our promises?",
        "The share of first tokens, and of tokens, that came late, over the last five minutes and"
        " the last day. More than 1 % is more than the objective allows; the alerts tell how fast"
        " the budget of a month burns.",
        recorded=(
            "smallmind:first_token_late:ratio_rate5m",
            "smallmind:token_late:ratio_rate5m",
            "smallmind:first_token_late:ratio_rate1d",
        ),
    ),
    Question(
        "Why was this request slow?",
        "Find its exemplar: in the panel *Time to first token* each diamond is a request, and leads"
        " to its trace. Without a trace, see which phase takes the time of all requests: `queue`"
        " wants capacity, `prefill` shorter prompts or a prompt cache, `decode` a smaller model,"
        " `consumer` a faster reader.",
        (
            ("smallmind-latency", "Time to first token"),
            ("smallmind-latency", "Seconds by phase"),
        ),
    ),
    Question(
        "Is the model slow, or the reader of the stream?",
        "The first is the engine's time for a token, the second how long the reader held the stream"
        " up. When only the second grows, the model is not at fault.",
        (
            ("smallmind-latency", "Time between tokens"),
            ("smallmind-latency", "Waits for the reader"),
        ),
    ),
    Question(
        "Which of prefill and decode got slower?",
        "Prompt tokens computed in a second of prefill, and tokens a second of one request. Decode"
        " falls when requests share the cores, prefill when prompts get long.",
        (
            ("smallmind-tokens", "Prefill speed"),
            ("smallmind-tokens", "Decode speed of a request"),
        ),
    ),
    Question(
        "How much does it do?",
        "Tokens a second over all requests; this is what a machine is bought for.",
        (
            ("smallmind-tokens", "Generated tokens each second"),
            ("smallmind-tokens", "Prompt tokens each second"),
        ),
    ),
    Question(
        "How long are prompts and completions?",
        "When prompts grow, so do the time to the first token and the cache. A completion length"
        " that sits at `max_tokens` is cut off.",
        (("smallmind-tokens", "Prompt length"), ("smallmind-tokens", "Completion length")),
    ),
    Question(
        "Would more capacity help?",
        "Only where requests wait: the share of their time in the queue. With little of it, more"
        " workers change nothing.",
        (
            ("smallmind-scheduler", "Share of the time spent waiting"),
            ("smallmind-scheduler", "Wait in the queue"),
        ),
    ),
    Question(
        "Who is turned away, and why?",
        "`BACKPRESSURE_QUEUE_FULL`: more requests than `max_queue_depth` allows."
        " `MEMORY_BUDGET_EXCEEDED`: the budget refuses. `CLOSED`: the engine is going.",
        (("smallmind-scheduler", "Turned away"), ("smallmind-scheduler", "Something was full")),
    ),
    Question(
        "Do callers give up?",
        "`CANCELLED_BY_CALLER` beside long waits means that they did; `CANCELLED_BY_TIMEOUT` is"
        " their time limit; `BACKPRESSURE_BUFFER_FULL` a reader that is too slow for its policy.",
        (("smallmind-scheduler", "Cancelled"),),
    ),
    Question(
        "Why do requests end without completing?",
        "Status and reason of those that did not complete, in the shown time.",
        (("smallmind-overview", "Why requests did not complete"),),
    ),
    Question(
        "Which errors end requests?",
        "`InferenceError` is the model's, mostly logits that are no numbers: run"
        " `smallmind validate`. `ContextOverflowError` is the caller's: the prompt is too long.",
        (("smallmind-overview", "Errors by class"),),
    ),
    Question(
        "Is the cache big enough?",
        "Evictions say no: idle caches are dropped to make room, and the next turn of those"
        " sessions computes its whole prompt again.",
        (("smallmind-memory", "Cache in use"), ("smallmind-memory", "Evictions")),
    ),
    Question(
        "Is the cache of prompts worth its memory?",
        "The share of prompt tokens that were found and not computed again.",
        (("smallmind-memory", "Prompt tokens found cached"), ("smallmind-memory", "Lookups")),
    ),
    Question(
        "What takes the memory?",
        "The most that each category has held, by model.",
        (("smallmind-memory", "Most memory held"), ("smallmind-memory", "Bytes of the cache")),
    ),
    Question(
        "Does the memory budget hold requests back?",
        "`MEMORY_BUDGET_SOFT_LIMIT`: they got less room than they asked for."
        " `MEMORY_BUDGET_EXCEEDED`: they were refused.",
        (("smallmind-memory", "The budget said no, or less"),),
    ),
    Question(
        "What works less well than asked for?",
        "Each reason says what was done instead; see the reason codes.",
        (("smallmind-overview", "What works less well than asked for"),),
    ),
    Question(
        "What is loaded, and with which kernels?",
        "Model, architecture, quantisation, backend and the fingerprint of the file.",
        (("smallmind-overview", "Loaded models"),),
    ),
    Question(
        "Why did loading take so long?",
        "By phase; kernels that had to be compiled are compiled once per machine, and"
        " `smallmind warmup` does it ahead.",
        (
            ("smallmind-overview", "Time that loading took"),
            ("smallmind-kernels", "Kernels made ready"),
        ),
    ),
    Question(
        "Which operation is the bottleneck, and is it memory?",
        'Needs `detail="kernel"`. An operation that reads nearly what the machine can is bound by'
        " memory: a smaller quantisation helps, more cores do not.",
        (
            ("smallmind-kernels", "Time by operation"),
            ("smallmind-kernels", "Memory read, as a share of what the machine can"),
        ),
    ),
    Question(
        "Which exporter fails or loses data?",
        "After five errors in a row an exporter is detached; the requests go on. Dropped events"
        " mean that its sink is slower than the engine.",
        (
            ("smallmind-telemetry", "Errors of exporters"),
            ("smallmind-telemetry", "Events dropped"),
        ),
    ),
    Question(
        "What does telemetry cost?",
        'The share of the time of requests. `detail="request"` costs least.',
        (
            ("smallmind-telemetry", "Share of the time of requests"),
            ("smallmind-telemetry", "Events each second"),
        ),
    ),
    Question(
        "Can these numbers be trusted?",
        "Readings that are not a number, infinite or negative are left out and counted. The time"
        " that no phase accounts for should stay around a hundredth.",
        (
            ("smallmind-telemetry", "Readings left out"),
            ("smallmind-latency", "Not accounted for"),
        ),
    ),
)


def render_operate_page() -> str:
    """The page, as Markdown."""
    parts = [_INTRODUCTION]
    for number, question in enumerate(QUESTIONS, 1):
        parts.append(f"\n## {number}. {question.asked}\n\n{question.answer}\n")
        parts.extend(_panel(*_find(board, title)) for board, title in question.panels)
        parts.extend(_recorded(name) for name in question.recorded)
    parts.append("\n## Alerts\n\n" + _alerts())
    parts.append("\n## The dashboards\n\n" + _DRAWN + "".join(_picture(board) for board in BOARDS))
    return "".join(parts)


def plain(expression: str) -> str:
    """An expression of a panel without its variables, as typed into Prometheus."""
    for variable in ('model=~"$model",', 'instance=~"$instance",', 'instance=~"$instance"'):
        expression = expression.replace(variable, "")
    expression = re.sub(r"\{\}", "", expression)
    return expression.replace("$__rate_interval", "5m").replace("$__range", "1h")


def _find(uid: str, title: str) -> tuple[Board, Panel]:
    """The panel.

    Raises:
        LookupError: there is none of that title on that board.
    """
    for board in BOARDS:
        for panel in board.panels:
            if (board.uid, panel.title) == (uid, title):
                return board, panel
    raise LookupError(f"{uid} has no panel {title!r}")


def _panel(board: Board, panel: Panel) -> str:
    name = board.title.removeprefix("smallmind / ")
    # Quantiles differ in one number: the middle one stands for all.
    middle = panel.queries[len(panel.queries) // 2 : len(panel.queries) // 2 + 1]
    shown = middle if "histogram_quantile" in panel.queries[0].expr else panel.queries
    return f"\nPanel *{panel.title}* of *{name}*:\n" + "".join(
        f"\n```promql\n{plain(query.expr)}\n```\n" for query in shown
    )


def _recorded(name: str) -> str:
    """A recorded series.

    Raises:
        LookupError: nothing of that name is recorded.
    """
    if name not in {recording.record for recording in RECORDINGS}:
        raise LookupError(f"{name} is not recorded")
    return f"\n```promql\n{name}\n```\n"


def _alerts() -> str:
    rows = ["| alert | severity | says | do |", "|---|---|---|---|"]
    rows += [
        f"| `{alert.name}` | {alert.severity} | {_said(alert)} | {alert.remedy} |"
        for alert in ALERTS
    ]
    return "\n".join(rows) + "\n"


def _said(alert: Alert) -> str:
    """The summary, with what stands in braces named in angle brackets."""
    named = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", alert.summary)
    return re.sub(r"\{\{ \$value [^}]*\}\}", "*so many*", named)


def _picture(board: Board) -> str:
    name = board.title.removeprefix("smallmind / ")
    return f"\n### {name}\n\n{board.about}\n\n![{name}](pictures/{board.uid}.png)\n"
