"""What administrators send and read."""

import uuid
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from app.auth.schemas import UserRead
from app.schemas import Page, Request, UtcTime


class UsersQuery(Request):
    q: (
        Annotated[
            str,
            # PostgreSQL's text cannot hold NUL.
            StringConstraints(
                strip_whitespace=True, min_length=1, max_length=320, pattern=r"^[^\x00]*$"
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Only accounts with this in their email, without regard to case.",
        examples=["lovelace"],
    )
    limit: int = Field(default=50, ge=1, le=100, description="Accounts on a page.")
    cursor: uuid.UUID | None = Field(
        default=None, description="The `next_cursor` of the page before."
    )


class UserDetails(UserRead):
    """An account as administrators see it."""

    is_admin: bool = Field(description="May manage the service.", examples=[False])
    is_active: bool = Field(description="False: disabled, nobody gets in with it.", examples=[True])
    disabled_at: UtcTime | None = Field(description="Null while it is active.", examples=[None])
    records: int = Field(description="Items in its history.", examples=[128])
    last_seen_at: UtcTime | None = Field(
        description="Last use of a session, token or API key that there still is, to the minute; "
        "null where that is not known."
    )


class UsersPage(Page[UserDetails]):
    """A page of the accounts."""


class UserUpdate(Request):
    """The fields to change; the others stay."""

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "examples": [{"is_active": False}]}
    )

    # Factories keep the placeholders out of the OpenAPI document; an unset field is never read.
    is_admin: StrictBool = Field(
        default_factory=bool, description="Whether it may manage the service."
    )
    is_active: StrictBool = Field(default_factory=bool, description="Whether it may be used.")

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self
