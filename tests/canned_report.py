"""A report of the comparison with figures that are easily computed in one's head.

smallmind reads a prompt in 1, 2 and 4 s by round, llama.cpp in twice, twice and four times that;
both decode at the same speed, and 16 sequences take twice as long as one.
"""

from __future__ import annotations

PREFILL_S = {"smallmind": (1.0, 2.0, 4.0), "llama.cpp": (2.0, 4.0, 16.0)}
CASES = {
    "1x128": {"sequences": 1, "context": 128, "steps": 32},
    "1x421": {"sequences": 1, "context": 421, "steps": 0},
    "16x128": {"sequences": 16, "context": 128, "steps": 32},
}
LOAD = {
    "import_s": 0.5,
    "load_s": 1.0,
    "first_token_s": 1.5,
    "rss_bytes": 150_000_000,
    "peak_rss_bytes": 200_000_000,
}
MEMORY = {"loaded": 200_000_000, "one_sequence": 250_000_000, "all_cases": 300_000_000}


def canned_report(*, alone: bool = False) -> dict:
    """A new one; ``alone`` without llama.cpp."""
    engines = ["smallmind"] if alone else ["smallmind", "llama.cpp"]
    facts: dict[str, dict] = {
        engine: {"about": {}, "loads": [LOAD, LOAD | {"load_s": 0.25}], "memory": MEMORY}
        for engine in engines
    }
    if alone:
        facts["llama.cpp"] = {"missing": "No module named 'llama_cpp'"}
    return {
        "format": 1,
        "date": "2030-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "Abacus 9",
            "cores": 4,
            "flags": ["avx2"],
            "system": "Linux",
            "python": "3.11.0",
            "packages": {"smallmind": "1.0", "numba": None},
        },
        "settings": {"threads": 2, "repeat": 3, "cases": CASES},
        "models": [
            {
                "name": "small",
                "file": "small.gguf",
                "file_bytes": 100_000_000,
                "bytes_per_step": 80_000_000,
                "layer_parameters": 1_000_000,
                "engines": facts,
                "limits": [
                    {
                        "read_bytes_per_s": 10e9,
                        "sgemm_flops_per_s": 1e9,
                        "int_dot_operations_per_s": None,
                        "int_dot_missing": "numba is not installed",
                    }
                ]
                * 3,
                "samples": [
                    _sample(engine, case, number)
                    for number in (1, 2, 3)
                    for case in CASES
                    for engine in engines
                ],
            }
        ],
    }


def _sample(engine: str, case: str, number: int) -> dict:
    single = case.startswith("1x")
    return {
        "round": number,
        "case": case,
        "engine": engine,
        "prefill_s": PREFILL_S[engine][number - 1] if single else None,
        "decode_s": None if case == "1x421" else 1.0 if single else 2.0,
        "tokens": [1, 2, 3 if engine == "smallmind" else 4],
        "rss_bytes": 250_000_000,
        "peak_rss_bytes": 250_000_000,
        "others_cpu_s": 0.0,
    }
