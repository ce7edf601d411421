"""Business errors. They know their HTTP status and code, and import no framework.

Rooms subclass these beside the service that raises them; `exception_handlers` maps the
whole tree to answers in one place. 422 is for payloads only.
"""

from collections.abc import Mapping


class AppError(Exception):
    """Root of all errors that a caller is told about.

    `status` is the HTTP status, `code` the snake_case identifier clients may branch on,
    `detail` one sentence for people.
    """

    status = 500
    code = "internal_error"
    detail = "Something went wrong on our side."

    def __init__(self, detail: str | None = None, *, code: str | None = None) -> None:
        self.detail = detail or type(self).detail
        self.code = code or type(self).code
        super().__init__(self.detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that belong to this error's answer."""
        return {}


class StartupError(RuntimeError):
    """The service cannot start; the message is one for who runs it, and says what to do."""


class BadRequestError(AppError):
    status = 400
    code = "bad_request"
    detail = "The request cannot be understood."


class UnauthorizedError(AppError):
    status = 401
    code = "unauthorized"
    detail = "Sign in, or send a valid token or API key."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(AppError):
    status = 403
    code = "forbidden"
    detail = "You are not allowed to do this."


class NotFoundError(AppError):
    status = 404
    code = "not_found"
    detail = "There is no such thing here."


class ConflictError(AppError):
    status = 409
    code = "conflict"
    detail = "This conflicts with what is already there."


class PayloadTooLargeError(AppError):
    status = 413
    code = "payload_too_large"
    detail = "The request is larger than this service accepts."


class UnsupportedMediaTypeError(AppError):
    status = 415
    code = "unsupported_media_type"
    detail = "This kind of content is not accepted."


class UnprocessableError(AppError):
    status = 422
    code = "unprocessable"
    detail = "The content cannot be processed."


class RetryableError(AppError):
    """An error that goes away by waiting; `retry_after_s` becomes the `Retry-After` header."""

    def __init__(
        self, detail: str | None = None, *, code: str | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> Mapping[str, str]:
        # Retry-After counts whole seconds (RFC 9110, 10.2.3); zero would invite a busy loop.
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


class TooManyRequestsError(RetryableError):
    status = 429
    code = "too_many_requests"
    detail = "You have sent too many requests. Wait a moment."


class ServiceUnavailableError(RetryableError):
    status = 503
    code = "service_unavailable"
    detail = "The service cannot take this request now. Try again shortly."


class DeadlineExceededError(AppError):
    status = 504
    code = "deadline_exceeded"
    detail = "The answer would have come after the request's deadline."
