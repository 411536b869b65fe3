"""What a text means, as a vector.

Owns the protocol; refuses to know where vectors come from and where they are kept. Invariant: vectors of one ``name``
may be compared with each other, of two names never.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # numpy is no part of the base install
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

Kind = Literal["query", "passage"]


class Embedder(Protocol):
    """Makes vectors. Raises ``UpstreamError`` when it cannot now."""

    @property
    def name(self) -> str:
        """The model, in a form that changes whenever its vectors do."""
        ...

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        """One row of unit length for each text, float32; models may treat what is looked for unlike what is found."""
        ...
