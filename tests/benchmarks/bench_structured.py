"""What holding answers to a grammar costs beside the model, and whether they are valid.

Run: ``python tests/benchmarks/bench_structured.py [--documents N] [--json]``. Documents of the
schemas in ``tests/json_schemas.py`` are drawn at temperature 1 with SmolLM2, one after the other,
and checked by ``jsonschema``. The limits it guards: masks take at most a tenth of the time of
decoding, by the median document, and every document that was not cut short is valid; the exit code
is 1 when one fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import jsonschema

sys.path.insert(0, str(Path(__file__).parents[1]))

import smallmind
from json_schemas import SCHEMAS, seeds
from smallmind.structured import Grammar, JsonSchema, ResponseFormat

MOST_SHARE = 0.10
JSON_GBNF = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the documents of a kind; times are those of a token, in milliseconds.

    Attributes:
        share: time of masks by that of decoding, of the median document.
        whole: documents that came to their end.
        valid: those of them that are what was asked for.
    """

    what: str
    documents: int
    whole: int
    valid: int
    tokens: int
    mask_ms: float
    decode_ms: float
    sample_ms: float
    share: float


@dataclass(slots=True)
class _Tally:
    """What was measured of some documents."""

    whole: int = 0
    valid: int = 0
    tokens: int = 0
    times: list[tuple[float, float, float]] | None = None

    def note(self, result: smallmind.GenerationResult) -> bool:
        """Count a result; whether it is whole."""
        ledger, steps = result.timings.ledger, result.timings.decode_steps
        if result.structured is None:
            raise AssertionError
        self.tokens += len(result.token_ids)
        self.whole += result.structured.complete
        if steps:
            phases = (smallmind.Phase.MASK, smallmind.Phase.DECODE, smallmind.Phase.SAMPLE)
            each = tuple(ledger[phase] * 1e3 / steps for phase in phases)
            self.times = [*(self.times or ()), (each[0], each[1], each[2])]
        return result.structured.complete

    def figures(self, what: str, documents: int) -> Figures:
        """What it comes to."""
        masks, decodes, samples = zip(*(self.times or [(0.0, 1.0, 0.0)]), strict=True)
        share = statistics.median(m / d for m, d in zip(masks, decodes, strict=True))
        median = statistics.median
        return Figures(
            what,
            documents,
            self.whole,
            self.valid,
            self.tokens,
            round(median(masks), 4),
            round(median(decodes), 4),
            round(median(samples), 4),
            round(share, 4),
        )


def documents(engine: smallmind.Engine, count: int) -> Figures:
    """Documents of all schemas."""
    tally = _Tally()
    per_schema = -(-count // len(SCHEMAS))
    for name, schema, seed in islice(seeds(per_schema), count):
        result = _drawn(engine, f"A JSON document, {name}: ", JsonSchema(schema), seed)
        if tally.note(result):
            kind = jsonschema.validators.validator_for(schema)
            tally.valid += kind(schema).is_valid(json.loads(result.text))
    return tally.figures("JSON Schema", count)


def objects(engine: smallmind.Engine, count: int) -> Figures:
    """Objects of llama.cpp's grammar of JSON."""
    tally = _Tally()
    for seed in range(count):
        result = _drawn(engine, "A person as JSON: ", Grammar(JSON_GBNF), seed)
        if tally.note(result):
            tally.valid += isinstance(json.loads(result.text), dict)
    return tally.figures("GBNF of JSON", count)


def _drawn(
    engine: smallmind.Engine, prompt: str, wanted: ResponseFormat, seed: int
) -> smallmind.GenerationResult:
    return engine.generate(
        prompt, response_format=wanted, temperature=1.0, seed=seed, max_tokens=200
    )


def main() -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with smallmind.load("smollm2", backend=asked.backend, exporters=()) as engine:
        engine.generate("warm up", max_tokens=8, response_format=Grammar("root ::= [a-z]*"))
        found = [documents(engine, asked.documents), objects(engine, max(1, asked.documents // 20))]
        backend = engine.backend
    if asked.json:
        json.dump({"backend": backend, "figures": [asdict(each) for each in found]}, sys.stdout)
    else:
        for each in found:
            print(
                f"{each.what} ({backend}): {each.valid} of {each.whole} whole documents are valid,"
                f" {each.documents - each.whole} of {each.documents} were cut short;"
                f" a token: mask {each.mask_ms:.3f} ms, decode {each.decode_ms:.3f} ms,"
                f" sample {each.sample_ms:.3f} ms; masks / decode {each.share:.1%}"
            )
    sound = all(each.valid == each.whole and each.share <= MOST_SHARE for each in found)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
