"""The ``tracestate`` of a W3C trace context: what other tracing systems want passed on.

Source: W3C Trace Context, section 3.3.
"""

from __future__ import annotations

import re
from typing import Final

MAX_MEMBERS: Final = 32

_KEY: Final = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(rf"(?P<key>{_KEY})=(?P<value>{_VALUE})")


def parse_tracestate(header: str) -> str:
    """A ``tracestate`` header without needless spaces; empty when any part of it is malformed.

    >>> parse_tracestate("congo=t61 , rojo=00f0"), parse_tracestate("not a member")
    ('congo=t61,rojo=00f0', '')
    """
    members = [member for part in header.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in found if match is not None}
    if len(keys) != len(members) or len(members) > MAX_MEMBERS:
        return ""
    return ",".join(members)
