"""Sampling: which token comes next, what it was worth, and when the text is over.

The chain stands in the order of llama.cpp: logit bias, penalties, top-k, typical-p, top-p, min-p,
temperature, draw.
"""

from smallmind_engine.sampling.confidence import Confidence, ConfidenceMeter
from smallmind_engine.sampling.logprobs import TokenLogprob, token_logprob
from smallmind_engine.sampling.options import SamplingOptions
from smallmind_engine.sampling.sampler import Sampler
from smallmind_engine.sampling.stops import StopMatcher

__all__ = [
    "Confidence",
    "ConfidenceMeter",
    "Sampler",
    "SamplingOptions",
    "StopMatcher",
    "TokenLogprob",
    "token_logprob",
]
