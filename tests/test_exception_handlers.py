"""How errors become answers."""

import inspect

from fastapi import FastAPI

from app.exception_handlers import add_exception_handlers


def test_no_error_waits_for_a_thread() -> None:
    app = FastAPI()
    own = dict(app.exception_handlers)
    add_exception_handlers(app)
    handlers = [
        handler for kind, handler in app.exception_handlers.items() if own.get(kind) is not handler
    ]
    assert handlers
    # Starlette runs others in its pool of threads, where a hundred refusals queue up.
    assert all(inspect.iscoroutinefunction(handler) for handler in handlers)
