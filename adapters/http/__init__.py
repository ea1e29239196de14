"""The HTTP API on Litestar: routes, problem documents, documents and streams. The core knows nothing of it."""
