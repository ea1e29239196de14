"""The Litestar application, made from ready objects."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide

from adapters.http.context import Context
from adapters.http.edge import Edge, RequestObserver, RequestStarted
from adapters.http.problems import answer_error
from adapters.http.routes import docs, images, objects, system
from domain.values import UserId

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(
    context: Context,
    *,
    started: Sequence[RequestStarted] = (),
    observers: Sequence[RequestObserver] = (),
    lifespan: Sequence[Lifespan] = (),
) -> Edge:
    """Return the ASGI application.

    Args:
        context: what the routes work with.
        started: called with each request's id when it begins, in its own context.
        observers: called with what is known of each request when it is over.
        lifespan: entered when the server starts, left when it ends.
    """

    def provide_context() -> Context:
        return context

    def provide_owner(request: Request[Any, Any, Any]) -> UserId:
        return context.authenticator.authenticate(request.headers)

    app = Litestar(
        route_handlers=[images.router, objects.read_object, system.router, docs.router],
        dependencies={
            "context": Provide(provide_context, sync_to_thread=False),
            "owner": Provide(provide_owner, sync_to_thread=False),
        },
        exception_handlers={Exception: answer_error},
        lifespan=list(lifespan),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # each route has its own limit, in bytes that really came
    )
    return Edge(app, started, observers, unread_max_bytes=2 * context.limits.max_upload_bytes)
