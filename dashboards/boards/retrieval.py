"""The row of retrieval: searches for the sources of answers, beside the other times."""

from __future__ import annotations

from typing import Final

from boards.panels import Panel, PanelKind, Query, Row
from boards.promql import quantile, rate, ratio

_USED: Final = "documents are searched with smallmind.rag"

RETRIEVAL_ROW: Final = Row(
    "Retrieval",
    (
        Panel(
            title="Searches each second",
            asks="How many searches end, and how?",
            unit="ops",
            only_after=_USED,
            queries=(Query(rate("retrievals_total", ("mode", "status")), "{{mode}}: {{status}}"),),
        ),
        Panel(
            title="Time of searches",
            asks="How long from the question to its sources?",
            unit="s",
            only_after=_USED,
            queries=tuple(
                Query(
                    quantile(share, "retrieval_duration_seconds", ("mode",)),
                    f"p{share * 100:g} {{{{mode}}}}",
                    exemplars=True,
                )
                for share in (0.5, 0.95)
            ),
        ),
        Panel(
            title="Where the time goes",
            asks="Which step of a search takes the time?",
            kind=PanelKind.STACKED,
            unit="s",
            only_after=_USED,
            queries=(Query(rate("retrieval_phase_seconds_total", ("phase",)), "{{phase}}"),),
        ),
        Panel(
            title="Without evidence",
            asks="How large a share of searches finds nothing to answer from?",
            unit="percentunit",
            width=12,
            only_after=_USED,
            queries=(
                Query(
                    ratio(rate("retrieval_insufficient_total"), rate("retrievals_total")),
                    "insufficient",
                ),
            ),
        ),
        Panel(
            title="Chunks each second",
            asks="How much text is found?",
            unit="ops",
            width=12,
            only_after=_USED,
            queries=(Query(rate("retrieval_chunks_total"), "chunks"),),
        ),
    ),
)
