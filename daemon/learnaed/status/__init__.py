"""The local status endpoint: what a node does, for people, scripts and Prometheus; served by `app`, read by the CLI."""

from learnaed.status.files import create_token
from learnaed.status.server import serve
from learnaed.status.source import StatusSource

__all__ = ["StatusSource", "create_token", "serve"]
