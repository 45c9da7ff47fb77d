"""The page of operating questions says what the dashboards say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages.operate_page import QUESTIONS, plain, render_operate_page

from boards import ALERTS, BOARDS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = render_operate_page()


def test_the_page_on_disk_is_the_one_the_tables_give():
    assert (DOCS / "operate.md").read_text(encoding="utf-8") == PAGE


def test_twenty_questions_or_more_are_answered():
    assert len(QUESTIONS) >= 20
    assert len({question.asked for question in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.asked)
def test_every_question_has_a_query(question):
    assert question.asked.endswith("?")
    section = PAGE.split(question.asked)[1].split("\n## ")[0]
    assert "```promql" in section


def test_queries_are_ready_to_type():
    queries = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    assert len(queries) >= 30
    assert not [query for query in queries if "$" in query or "{}" in query or ",}" in query]


def test_variables_are_taken_out():
    assert plain('a{model=~"$model",instance=~"$instance"}[$__rate_interval]') == "a[5m]"
    assert plain('a{instance=~"$instance",phase="queue"}[$__range]') == 'a{phase="queue"}[1h]'


def test_every_alert_and_every_dashboard_is_there():
    assert all(f"`{alert.name}`" in PAGE for alert in ALERTS)
    for board in BOARDS:
        assert (DOCS / "pictures" / f"{board.uid}.png").stat().st_size < 250_000
