"""HTTP endpoints in the style of OpenAI, as ASGI applications to mount in a host's server.

They need no package beside a server's own, and make no thread nor socket.

>>> from smallmind.endpoints import embeddings_app
>>> app.mount("/v1/embeddings", embeddings_app(engine))  # doctest: +SKIP
"""

from smallmind.endpoints._asgi import AsgiApp
from smallmind.endpoints._embeddings import embeddings_app

__all__ = ["AsgiApp", "embeddings_app"]
