"""Sampling: which token comes next, what it was worth, and when the text is over.

The chain stands in the order of llama.cpp: logit bias, penalties, top-k, typical-p, top-p, min-p,
temperature, draw.
"""

from smallmind_engine.sampling.confidence import Confidence, ConfidenceMeter
from smallmind_engine.sampling.constraint import Allowed, Constraint
from smallmind_engine.sampling.logprobs import TokenLogprob, token_logprob
from smallmind_engine.sampling.options import SamplingOptions
from smallmind_engine.sampling.row_logprobs import RowLogprobs, row_logprobs
from smallmind_engine.sampling.sampler import Sampler
from smallmind_engine.sampling.stops import StopMatcher

__all__ = [
    "Allowed",
    "Confidence",
    "ConfidenceMeter",
    "Constraint",
    "RowLogprobs",
    "Sampler",
    "SamplingOptions",
    "StopMatcher",
    "TokenLogprob",
    "row_logprobs",
    "token_logprob",
]
