"""Numbers and text as people read them."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BYTE_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_COUNT_UNITS: Final = ((1e9, "B"), (1e6, "M"))


def harmless(text: str) -> str:
    r"""Text that a terminal only shows: control characters but tab and line feed are escaped.

    What a model says and what a file holds may be written by a stranger.

    >>> harmless("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    r"""Harmless text without line breaks.

    >>> one_line("a\nb")
    'a b'
    """
    return harmless(" ".join(text.splitlines()))


def shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters, with an ellipsis where something is left out.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bytes_text(size: int | None) -> str:
    """A size in binary units.

    >>> bytes_text(98_362_432), bytes_text(17), bytes_text(None)
    ('93.8 MiB', '17 B', '?')
    """
    if size is None:
        return "?"
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    unit = ""
    for unit in _BYTE_UNITS:  # noqa: B007 - the last unit serves for all that is larger
        amount /= 1024
        if amount < 999.95:
            break
    return f"{amount:.1f} {unit}"


def seconds_text(seconds: float | None) -> str:
    """A duration with three digits that count.

    >>> seconds_text(1.2345), seconds_text(0.0123), seconds_text(0.00001), seconds_text(None)
    ('1.23 s', '12.3 ms', '10 µs', '-')
    """
    if seconds is None:
        return "-"
    if seconds >= 0.9995:
        return f"{_three_digits(seconds)} s"
    if seconds >= 0.0009995:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{seconds * 1e6:.0f} µs"


def _three_digits(amount: float) -> str:
    return f"{amount:#.3g}".rstrip(".") if amount < 999.5 else f"{amount:,.0f}"


def rate_text(tokens_per_second: float | None) -> str:
    """A speed.

    >>> rate_text(41.26), rate_text(None)
    ('41.3 tok/s', '-')
    """
    return "-" if tokens_per_second is None else f"{tokens_per_second:,.1f} tok/s"


def share_text(share: float, digits: int = 1) -> str:
    """A share of one as percent.

    >>> share_text(0.4567)
    '45.7 %'
    """
    return f"{share * 100:.{digits}f} %"


def count_text(count: int) -> str:
    """A large number in short.

    >>> count_text(134_515_008), count_text(576)
    ('134.5 M', '576')
    """
    for size, unit in _COUNT_UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"
