"""Answers that are held to a grammar: what they look like, how they end, what they cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
import pytest
import regex

from engines import TINY, Recorder, tiny_engine
from json_schemas import SCHEMAS
from smallmind import CancellationToken, Engine, GenerationOptions, Phase, StopReason
from smallmind.structured import (
    Choice,
    Forms,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
    parsed,
)
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    GrammarApplied,
    InferenceError,
    InferenceStopped,
    ReasonCode,
    RequestQueued,
)
from smallmind_engine.telemetry.errors import ConfigError
from tiny_models import TinyModel

PROMPT = "the and in"
DRAW = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 120}
PHONE = Regex("[0-9]{3}-[0-9]{4}")
LIST = Grammar('root ::= item ("," item)* "."\nitem ::= [a-c]{1,3}')
WORD = regex.compile(r"[a-c]{1,3}(,[a-c]{1,3})*\.")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with tiny_engine(tmp_path_factory.mktemp("engine"), backend="numpy") as engine:
        yield engine


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_document_is_valid(engine: Engine, name: str) -> None:
    schema = SCHEMAS[name]
    result = engine.generate(PROMPT, response_format=JsonSchema(schema), seed=3, **DRAW)
    assert result.structured is not None
    assert result.structured.complete
    assert result.stop_reason is StopReason.COMPLETED
    jsonschema.validators.validator_for(schema)(schema).validate(parsed(result))


@pytest.mark.parametrize("seed", range(3))
def test_other_formats_are_kept_too(engine: Engine, seed: int) -> None:
    def text(wanted: ResponseFormat) -> str:
        return engine.generate(PROMPT, response_format=wanted, seed=seed, **DRAW).text

    assert regex.fullmatch(PHONE.pattern, text(PHONE))
    assert text(Choice(["yes", "no", "yes, sir"])) in {"yes", "no", "yes, sir"}
    assert WORD.fullmatch(text(LIST))
    form = Forms((("<", JsonSchema({"enum": [1, "a"]}), ">"),))
    assert text(form) in {"<1>", '<"a">'}


def test_an_object_of_any_content_is_an_object(engine: Engine) -> None:
    result = engine.generate(PROMPT, response_format=JsonObject(), temperature=0.0, max_tokens=40)
    assert result.text.startswith("{")
    if result.structured is not None and result.structured.complete:
        assert isinstance(parsed(result), dict)


def test_blanks_are_left_out_unless_they_are_asked_for(engine: Engine) -> None:
    schema = {"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2}
    plain = engine.generate(PROMPT, response_format=JsonSchema(schema), seed=1, **DRAW)
    assert plain.text == "[1, 1]"
    texts = {
        engine.generate(
            PROMPT, response_format=JsonSchema(schema, whitespace=True), seed=seed, **DRAW
        ).text
        for seed in range(4)
    }
    assert len(texts) > 1


def test_a_class_with_a_schema_stands_for_it(engine: Engine) -> None:
    class Person:
        @classmethod
        def model_json_schema(cls) -> dict[str, object]:
            return dict(SCHEMAS["person"])

    wanted = JsonSchema(Person)
    assert wanted == JsonSchema(SCHEMAS["person"]) == JsonSchema(json.dumps(SCHEMAS["person"]))
    result = engine.generate(PROMPT, response_format=wanted, seed=3, **DRAW)
    assert set(parsed(result)) == {"name", "age"}


# -- the end ---------------------------------------------------------------------------------------


def test_the_request_stops_where_nothing_may_follow(engine: Engine) -> None:
    result = engine.generate(PROMPT, response_format=Choice(["the"]), **DRAW)
    assert (result.text, result.stop_reason) == ("the", StopReason.COMPLETED)
    assert result.timings.decode_steps == len(result.token_ids) - 1


def test_the_empty_text_is_an_answer(engine: Engine) -> None:
    result = engine.generate(PROMPT, response_format=Regex(""), **DRAW)
    assert (result.text, result.token_ids) == ("", ())
    assert result.stop_reason is StopReason.COMPLETED
    assert result.structured is not None
    assert result.structured.complete


def test_an_answer_that_is_cut_short_says_so(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, backend="numpy", exporters=[recorder]) as engine:
        wanted = JsonSchema(SCHEMAS["person"])
        result = engine.generate(PROMPT, response_format=wanted, max_tokens=5)
    assert result.structured is not None
    assert not result.structured.complete
    assert result.structured.cut_by is StopReason.MAX_TOKENS
    assert [each.reason for each in recorder.of(Degraded)] == [DegradeReason.RESPONSE_INCOMPLETE]
    assert not recorder.of(GrammarApplied)[0].complete
    with pytest.raises(InferenceError) as caught:
        parsed(result)
    assert caught.value.reason is ReasonCode.RESPONSE_INCOMPLETE
    assert caught.value.details["result"] is result


def test_a_text_that_may_end_is_complete_when_the_tokens_are_used_up(engine: Engine) -> None:
    result = engine.generate(PROMPT, response_format=Regex("[ab]+"), temperature=0.0, max_tokens=6)
    assert result.structured is not None
    assert result.structured.complete
    assert result.structured.cut_by is None


def test_the_end_of_the_context_is_no_end_of_a_document(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, backend="numpy", context_length=16) as engine:
        result = engine.generate(PROMPT, response_format=JsonSchema(SCHEMAS["nested"]))
    assert result.stop_reason is StopReason.CONTEXT_FULL
    assert result.structured is not None
    assert result.structured.cut_by is StopReason.CONTEXT_FULL


def test_a_grammar_goes_on_when_the_context_slides(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, backend="numpy", context_length=24) as engine:
        result = engine.generate(
            PROMPT, response_format=Regex("[a-z]{60}"), context_overflow="sliding", seed=1, **DRAW
        )
    assert regex.fullmatch("[a-z]{60}", result.text)


@pytest.mark.parametrize(("stop", "complete"), [("-", False), ("99", False), ("x", True)])
def test_a_stop_string_leaves_a_whole_answer_or_says_that_it_does_not(
    engine: Engine, stop: str, *, complete: bool
) -> None:
    wanted = Regex("abx?-99")
    result = engine.generate(PROMPT, response_format=wanted, stop=stop, seed=1, **DRAW)
    assert result.structured is not None
    stopped = result.stop_reason is StopReason.STOP_SEQUENCE
    assert result.structured.complete == (not stopped)
    assert stopped or complete


def test_what_a_stop_string_leaves_may_be_whole(engine: Engine) -> None:
    wanted = Grammar('root ::= "a" | "a" "b" "c"')
    longer = dict.fromkeys(engine.tokenize("b"), 50.0)
    result = engine.generate(PROMPT, response_format=wanted, stop="bc", logit_bias=longer, **DRAW)
    assert (result.text, result.stop_reason) == ("a", StopReason.STOP_SEQUENCE)
    assert result.structured is not None
    assert result.structured.complete


def test_a_cancelled_answer_is_not_complete(engine: Engine) -> None:
    token = CancellationToken()
    result = engine.generate(
        PROMPT,
        response_format=Regex("[a-z]{60}"),
        cancellation=token,
        on_token=lambda _: token.cancel(),
        **DRAW,
    )
    assert result.stop_reason is StopReason.CANCELLED_BY_CALLER
    assert result.structured is not None
    assert not result.structured.complete


# -- with everything else --------------------------------------------------------------------------

OTHERS: Mapping[str, Mapping[str, object]] = {
    "greedy": {"temperature": 0.0},
    "log-probabilities": {"logprobs": 3},
    "penalties": {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5},
    "filters": {"top_k": 5, "top_p": 0.7, "min_p": 0.1, "typical_p": 0.9},
    "bias": {"logit_bias": {3 + ord("7") - 0x21: 5.0}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_options_work_beside_a_grammar(engine: Engine, name: str) -> None:
    options = {**DRAW, **OTHERS[name]}
    result = engine.generate(PROMPT, response_format=PHONE, seed=2, **options)
    assert regex.fullmatch(PHONE.pattern, result.text)
    if "logprobs" in options:
        assert result.logprobs is not None
        assert len(result.logprobs) == len(result.token_ids)


def test_a_grammar_that_the_bias_forbids_is_an_error(engine: Engine) -> None:
    ids = engine.tokenize("x")
    with pytest.raises(InferenceError) as caught:
        engine.generate(
            PROMPT, response_format=Regex("x"), logit_bias={ids[0]: float("-inf")}, **DRAW
        )
    assert caught.value.reason is ReasonCode.NON_FINITE_LOGITS


def test_choices_are_each_of_the_format_and_as_they_are_alone(engine: Engine) -> None:
    drawn = engine.choices(PROMPT, 4, response_format=LIST, seed=7, **DRAW).choices
    for choice in drawn:
        assert WORD.fullmatch(choice.text)
        alone = engine.generate(
            PROMPT, response_format=LIST, **{**DRAW, "seed": choice.result.seed}
        )
        assert alone.token_ids == choice.result.token_ids


def test_requests_with_and_without_grammars_share_steps(engine: Engine) -> None:
    wanted = [None, PHONE, LIST, JsonSchema(SCHEMAS["person"])]
    limits = {**DRAW, "max_tokens": 30, "seed": 5}

    async def together() -> list[tuple[int, ...]]:
        runs = (engine.agenerate(PROMPT, response_format=each, **limits) for each in wanted)
        return [result.token_ids for result in await asyncio.gather(*runs)]

    alone = [engine.generate(PROMPT, response_format=each, **limits) for each in wanted]
    assert asyncio.run(together()) == [result.token_ids for result in alone]


def test_a_stream_and_a_session_hold_to_it(engine: Engine) -> None:
    with engine.session() as session:
        first = session.generate(PROMPT, response_format=PHONE, seed=1, **DRAW)
        chunks = list(session.stream(" and", response_format=PHONE, seed=1, **DRAW))
    assert regex.fullmatch(PHONE.pattern, first.text)
    assert regex.fullmatch(PHONE.pattern, "".join(chunk.text for chunk in chunks))


@pytest.mark.parametrize("pattern", [" the", "the", "é+😀"])
def test_a_token_table_keeps_the_blanks_that_the_grammar_saw(tmp_path: Path, pattern: str) -> None:
    model = TinyModel("llama", tokenizer="llama", scale=0.35, tied=False)
    with tiny_engine(tmp_path, model, backend="numpy") as engine:
        for prompt in ([1], "a"):  # after no text, and after some
            result = engine.generate(prompt, response_format=Regex(pattern), seed=4, **DRAW)
            if result.structured is not None and result.structured.complete:
                assert regex.fullmatch(pattern, result.text)
            else:
                assert regex.fullmatch(pattern, result.text.rstrip("\ufffd"), partial=True)


# -- what is refused -------------------------------------------------------------------------------


def _deep(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


BAD: list[tuple[str, object, str]] = [
    ("no type", {"type": "objekt"}, "$.type"),
    ("deep in it", {"properties": {"a": {"minLength": -1}}}, "$.properties.a.minLength"),
    ("a keyword that cannot be followed", {"not": {"type": "string"}}, ""),
    ("nothing fits", {"type": "integer", "minimum": 5, "maximum": 3}, ""),
    ("nothing at all", False, ""),
    ("another address", {"$ref": "http://localhost:9/schema"}, ""),
    ("no end", {"$ref": "#"}, ""),
    ("too deep", _deep(70), "$"),
    ("far too deep", _deep(300), "$"),
    ("a reference to nothing", {"$ref": "#/$defs/missing"}, ""),
]


@pytest.mark.parametrize(("name", "schema", "where"), BAD, ids=[each[0] for each in BAD])
def test_a_schema_that_cannot_be_followed_is_refused_before_anything_is_queued(
    tmp_path: Path, name: str, schema: object, where: str
) -> None:
    recorder = Recorder()
    with (
        tiny_engine(tmp_path, backend="numpy", exporters=[recorder]) as engine,
        pytest.raises(ConfigError) as caught,
    ):
        engine.generate(PROMPT, response_format=JsonSchema(schema))
    assert caught.value.reason is ReasonCode.RESPONSE_FORMAT_INVALID
    assert caught.value.details["where"] == where
    assert caught.value.hint or name.startswith("nothing")
    assert not recorder.of(RequestQueued)
    assert "panic" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)b", r"\bfoo", "a{3,1}"])
def test_an_expression_that_cannot_be_followed_is_refused(engine: Engine, pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.generate(PROMPT, response_format=Regex(pattern))
    assert caught.value.reason is ReasonCode.RESPONSE_FORMAT_INVALID
    assert caught.value.hint


def test_a_grammar_that_cannot_be_read_is_refused_with_its_place(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="line 2, column 7") as caught:
        engine.generate(PROMPT, response_format=Grammar('root ::= x\nx ::= "a'))
    assert caught.value.reason is ReasonCode.RESPONSE_FORMAT_INVALID
    assert caught.value.details["where"] == "line 2, column 7"


@pytest.mark.parametrize(
    "make",
    [
        lambda: JsonSchema("{"),
        lambda: JsonSchema(3),
        lambda: JsonSchema({"a": {1, 2}}),
        lambda: Choice([]),
        lambda: Choice("ab"),
        lambda: Choice([""]),
        lambda: Choice([3]),
        lambda: Regex(b"a"),
        lambda: Regex("\ud800"),
        lambda: Grammar(None),
        lambda: Forms(()),
        lambda: Forms(((),)),
        lambda: GenerationOptions(response_format={"type": "object"}),
        lambda: GenerationOptions(response_format=PHONE, ignore_eos=True),
    ],
)
def test_what_is_no_format_is_refused_at_once(make: object) -> None:
    with pytest.raises(ConfigError):
        make()


# -- what it costs, and what is told ---------------------------------------------------------------


def test_masks_and_compilation_are_in_the_ledger_and_told(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, TINY, backend="numpy", exporters=[recorder]) as engine:
        first, second = (
            engine.generate(PROMPT, response_format=PHONE, seed=1, **DRAW) for _ in range(2)
        )
        plain = engine.generate(PROMPT, max_tokens=4)
    for result in (first, second):
        ledger = result.timings.ledger
        assert ledger[Phase.MASK] > 0.0
        assert ledger[Phase.GRAMMAR] > 0.0
        assert sum(ledger.values()) == pytest.approx(result.timings.total_s, abs=1e-9)
        assert result.structured is not None
        assert result.structured.mask_s == ledger[Phase.MASK]
        assert result.structured.compile_s <= ledger[Phase.GRAMMAR]
        assert result.structured.masks == len(result.token_ids) + 1
    assert [each.structured.cached for each in (first, second)] == [False, True]
    assert plain.structured is None
    assert plain.timings.ledger[Phase.MASK] == plain.timings.ledger[Phase.GRAMMAR] == 0.0
    told = recorder.of(GrammarApplied)
    assert [(each.format, each.complete, each.cached) for each in told] == [
        ("regex", True, False),
        ("regex", True, True),
    ]
    assert told[0].vocab_size == engine.model.spec.vocab_size
    assert 0 < told[0].allowed_tokens < told[0].masks * told[0].vocab_size
    assert told[0].correlation == first.correlation
    assert dict(recorder.of(InferenceStopped)[0].ledger)["mask"] == first.structured.mask_s
