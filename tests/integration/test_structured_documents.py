"""Five hundred documents that a real model writes are all what their schemas ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

import smallmind
from json_schemas import SCHEMAS
from smallmind import Engine
from smallmind.structured import JsonSchema

SEEDS = 25

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def engine(smollm2_path: Path) -> Iterator[Engine]:
    with smallmind.load(smollm2_path, exporters=()) as engine:
        yield engine


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_document_is_valid_and_none_is_cut_short(engine: Engine, name: str) -> None:
    schema = SCHEMAS[name]
    drawn = engine.choices(
        f"A JSON document, {name}: ",
        SEEDS,
        response_format=JsonSchema(schema),
        temperature=1.0,
        seed=11,
        max_tokens=250,
    )
    validator = jsonschema.validators.validator_for(schema)(schema)
    whole = [each.result for each in drawn.choices if each.result.structured.complete]
    invalid = [each.text for each in whole if not validator.is_valid(json.loads(each.text))]
    assert not invalid
    # A document that was cut short is no valid one, and is told as such: it is counted apart.
    assert len(whole) == SEEDS
