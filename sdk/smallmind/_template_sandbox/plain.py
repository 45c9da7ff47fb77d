"""Messages and tools as plain data: a template gets copies, never a caller's own objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smallmind_engine.telemetry import ChatTemplateError, ReasonCode


def plain_data(value: object, where: str) -> object:
    """Copy ``value`` as text, numbers, booleans, None, lists and dicts.

    Args:
        value: what a caller passed.
        where: its name, for the error.

    Raises:
        ChatTemplateError: something else is in it, or it contains itself.
    """
    try:
        return _copied(value, where)
    except RecursionError as error:
        raise _refusal(where, "is nested too deeply, or contains itself") from error


def _copied(value: object, where: str) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {_key(key, where): _copied(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_copied(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise _refusal(where, f"is a {type(value).__name__}")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise _refusal(where, f"has the key {key!r}, a {type(key).__name__}")
    return str.__str__(key)


def _refusal(where: str, why: str) -> ChatTemplateError:
    return ChatTemplateError(
        ReasonCode.CHAT_TEMPLATE_INVALID,
        f"{where} {why}",
        hint="chat templates take text, numbers, booleans, None, lists, and dicts with text keys",
        where=where,
    )
