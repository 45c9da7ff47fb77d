"""What a grammar has to say about the next token: the interface to whatever knows grammars."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Allowed: TypeAlias = npt.NDArray[np.bool_]  # (V,): whether each token may come next


class Constraint(Protocol):
    """Holds one text to a grammar, token by token. Belongs to one request."""

    def allowed(self) -> Allowed:
        """Tokens that may come next, shape ``(V,)``; those that end a text where it may end.

        The array is the same at each call, written anew.

        Raises:
            InferenceError: the grammar became too much for the library behind it.
        """
        ...

    def accept(self, token_id: int) -> None:
        """Go on with a token that was allowed, and does not end the text.

        Raises:
            InferenceError: the token was not allowed.
        """
        ...

    @property
    def complete(self) -> bool:
        """Whether the tokens so far are a whole text of the grammar."""
        ...
