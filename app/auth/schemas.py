"""Bodies of the accounts' requests and answers."""

import unicodedata
import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from app.auth.models import TokenKind
from app.auth.security import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, normalize_email
from app.database import now
from app.schemas import Request, Schema, UtcTime, refuse_number

Email = Annotated[
    str,
    Field(
        max_length=320, json_schema_extra={"format": "email"}, examples=["ada.lovelace@example.com"]
    ),
    AfterValidator(normalize_email),
]
"""An email address; kept and compared in lower case."""

NewPassword = Annotated[
    str,
    Field(
        min_length=MIN_PASSWORD_LENGTH,
        max_length=MAX_PASSWORD_LENGTH,
        description=f"{MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH:,} characters.",
        json_schema_extra={"format": "password"},
        examples=["correct horse battery staple"],
    ),
]

# Without bounds: what no password can be is wrong, and says so in the same words.
CurrentPassword = Annotated[
    str,
    Field(
        description="The account's present password.",
        json_schema_extra={"format": "password"},
        examples=["correct horse battery staple"],
    ),
]


def _printable(name: str) -> str:
    name = name.strip()
    if not name:
        raise ValueError("a name needs at least one visible character")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise ValueError("a name may not contain control characters")
    return name


def _in_future(moment: datetime) -> datetime:
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error
    if in_utc <= now():
        raise ValueError("the time must be in the future")
    return in_utc


class RegisterRequest(Request):
    """A new account."""

    email: Email
    password: NewPassword


class UserRead(Schema):
    """An account as others of its kind see it."""

    id: uuid.UUID
    email: str = Field(examples=["ada.lovelace@example.com"])
    created_at: UtcTime


class Me(UserRead):
    """The caller's own account."""

    is_admin: bool = Field(description="May manage the service.")


class UpdateMeRequest(Request):
    """A new email, a new password, or both."""

    current_password: CurrentPassword
    email: Email | None = None
    new_password: NewPassword | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.email is None and self.new_password is None:
            raise ValueError("give a new email or a new password")
        return self


class DeleteMeRequest(Request):
    """The password, so that nobody deletes an account from a screen left open."""

    current_password: CurrentPassword


class PasswordForm(Schema):
    """The form of OAuth2's password grant, https://www.rfc-editor.org/rfc/rfc6749#section-4.3.2

    Of clients and scopes, which it may name as well, nothing is known here.
    """

    # A form cannot tell an empty field from a missing one.
    username: str = Field(
        min_length=1, description="Your email.", examples=["ada.lovelace@example.com"]
    )
    password: str = Field(min_length=1, json_schema_extra={"format": "password"})
    grant_type: Literal["password"] = "password"
    scope: str = ""
    client_id: str | None = None
    client_secret: str | None = Field(None, json_schema_extra={"format": "password"})


class BearerToken(Schema):
    """The answer of the OAuth2 password form."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"access_token": "lko_3q2-7w…", "token_type": "bearer", "expires_in": 86400}
            ]
        }
    )

    access_token: str = Field(description="Send it as `Authorization: Bearer …`.")
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until it expires.")


class CsrfToken(Schema):
    """A token for `X-CSRF-Token`."""

    csrf_token: str = Field(description="Valid until you sign in or out.")


class TokenRead(Schema):
    """A session, bearer token or API key; the secret itself is not kept."""

    id: uuid.UUID
    kind: TokenKind = Field(description="How it travels.")
    name: str = Field(
        description="An API key's name, else the client that signed in.", examples=["curl/8.5.0"]
    )
    created_at: UtcTime
    last_used_at: UtcTime | None = Field(description="To the minute; null when never used.")
    expires_at: UtcTime | None = Field(description="Null: never.")
    current: bool = Field(description="Whether this very call was made with it.")


class CreateApiKeyRequest(Request):
    """A new API key."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, examples=["Label printer"]),
        AfterValidator(_printable),
    ]
    expires_at: (
        Annotated[AwareDatetime, BeforeValidator(refuse_number), AfterValidator(_in_future)] | None
    ) = Field(None, description="Default: it does not expire.", examples=["2099-12-31T23:59:59Z"])


class ApiKey(Schema):
    """The new key: the only answer that ever shows it."""

    id: uuid.UUID
    name: str = Field(examples=["Label printer"])
    key: str = Field(description="Send it as `X-API-Key`. Keep it now: it is not shown again.")
    created_at: UtcTime
    expires_at: UtcTime | None
