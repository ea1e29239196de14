"""The Litestar application, made from ready objects."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide

from adapters.http.context import Context
from adapters.http.cors import Cors
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
    browser_origins: Sequence[str] = (),
    hsts_s: int = 0,
    stall_timeout_s: float = 30,
) -> Edge:
    """Return the ASGI application.

    Args:
        context: what the routes work with.
        started: called with each request's id when it begins, in its own context.
        observers: called with what is known of each request when it is over.
        lifespan: entered when the server starts, left when it ends.
        browser_origins: the sites whose scripts may use the API; ``*`` for any.
        hsts_s: for how long browsers shall come by HTTPS alone; 0 says nothing.
        stall_timeout_s: how long to wait for a client that sends, or takes, nothing.
    """

    def provide_context() -> Context:
        return context

    # It asks for the context only to come after it: of two that could come together Litestar makes tasks, and that
    # costs more than reading a record.
    async def provide_owner(request: Request[Any, Any, Any], context: Context) -> UserId:
        owner = await context.authenticator.authenticate(request.scope)
        await context.authenticator.spend(request.scope)
        return owner

    app = Litestar(
        route_handlers=[images.router, objects.read_object, system.router, docs.router],
        dependencies={
            "context": Provide(provide_context, sync_to_thread=False),
            "owner": Provide(provide_owner),
        },
        exception_handlers={Exception: answer_error},
        lifespan=list(lifespan),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # each route has its own limit, in bytes that really came
    )
    return Edge(
        Cors(app, browser_origins) if browser_origins else app,
        started,
        observers,
        unread_max_bytes=2 * context.limits.max_upload_bytes,
        stall_timeout_s=stall_timeout_s,
        headers=[(b"strict-transport-security", b"max-age=%d" % hsts_s)] if hsts_s else [],
    )
