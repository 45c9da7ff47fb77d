"""Who may see what: labels on documents, and users who hold some of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class UserContext:
    """For whom a search is made.

    Attributes:
        user_id: who it is; for an authorizer of your own, never exported.
        labels: what the user holds.
    """

    user_id: str
    labels: frozenset[str] = frozenset()


class Authorizer(Protocol):
    """Decides who may see documents with labels."""

    def allows(self, user: UserContext, labels: frozenset[str], /) -> bool:
        """Whether ``user`` may see what carries ``labels``, of which there is at least one.

        Called once for each distinct set of labels in the index, from several threads. Whatever
        it raises, and any answer but True, counts as a no.
        """
        ...


class LabelAuthorizer:
    """A user sees a document when they hold every label that it carries."""

    def allows(self, user: UserContext, labels: frozenset[str], /) -> bool:
        """Whether nothing is missing."""
        return labels <= user.labels


def may_see(user: UserContext | None, labels: frozenset[str], authorizer: Authorizer) -> bool:
    """Whether ``user`` may see what carries ``labels``; in doubt, no.

    Without labels it is public. Without a user only what is public may be seen.
    """
    if not labels:
        return True
    if user is None:
        return False
    try:
        return authorizer.allows(user, labels) is True
    except Exception:  # noqa: BLE001 - a rule that fails must not open the door
        return False


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Gives labels to the documents whose source matches a pattern.

    Attributes:
        pattern: as of the shell, over the whole source; ``*`` matches slashes too.
        labels: what they get.
    """

    pattern: str
    labels: frozenset[str]


def labels_by(rules: Iterable[LabelRule], source: str) -> frozenset[str]:
    """All labels that the rules give to ``source``."""
    found = (rule.labels for rule in rules if fnmatch.fnmatchcase(source, rule.pattern))
    return frozenset().union(*found)
