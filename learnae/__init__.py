"""learnae: peer-to-peer training of neural networks by ordinary PCs; this package is the library and the client."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learnae.loop import join as join

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Only scripts that train need torch, which takes seconds to import.
    if name == "join":
        from learnae.loop import join

        return join
    raise AttributeError(f"module 'learnae' has no attribute {name!r}")
