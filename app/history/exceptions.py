"""What can go wrong with a person's history."""

from app.exceptions import (
    AppError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    UnauthorizedError,
)


class RecordNotKeptError(AppError):
    """The database refused this one record."""

    code = "record_not_kept"
    detail = "The answer was computed but could not be kept in your history."


class OwnerDeletedError(UnauthorizedError):
    """The account was deleted between the check of the identity and the commit."""

    code = "account_deleted"
    detail = "This account has been deleted."


class HistoryUnavailableError(ServiceUnavailableError):
    code = "history_unavailable"
    detail = "The history cannot be written now. Try again shortly."


class HistoryItemNotFoundError(NotFoundError):
    code = "history_item_not_found"
    detail = "There is no such item in your history."


class PictureNotFoundError(NotFoundError):
    code = "picture_not_found"
    detail = "No picture is kept of this item."


class InvalidCursorError(BadRequestError):
    code = "invalid_cursor"
    detail = "The cursor is not one that this service gave. Start again without it."


class InvalidTimeRangeError(BadRequestError):
    code = "invalid_time_range"
    detail = "`from` must be earlier than `to`."


class FeedbackNotFoundError(NotFoundError):
    code = "feedback_not_found"
    detail = "There is no feedback on this item."


class FeedbackExistsError(ConflictError):
    code = "feedback_exists"
    detail = "There is feedback on this item already; change it with PATCH."


class FeedbackNotSupportedError(ConflictError):
    code = "feedback_not_supported"
    detail = "A stream has many answers and takes no feedback; give it on a single detection."
