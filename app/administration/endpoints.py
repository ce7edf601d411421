"""The HTTP door of administration."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, status
from starlette.requests import HTTPConnection

from app.administration.schemas import UserDetails, UsersPage, UsersQuery, UserUpdate
from app.administration.service import Administration, UserSummary
from app.auth.dependencies import AdminCaller, get_authenticator
from app.exceptions import UnauthorizedError
from app.schemas import error_responses

router = APIRouter(prefix="/admin", tags=["Administration"])


# Async, as FastAPI runs other dependencies in a thread.
async def get_administration(connection: HTTPConnection) -> Administration:
    """The service over the application's authenticator."""
    return Administration(get_authenticator(connection))


async def get_admin_id(caller: AdminCaller) -> uuid.UUID:
    """The id of the administrator who calls."""
    if caller.user_id is None:
        raise UnauthorizedError
    return caller.user_id


AdministrationDep = Annotated[Administration, Depends(get_administration)]
AdminId = Annotated[uuid.UUID, Depends(get_admin_id)]
UserId = Annotated[uuid.UUID, Path(description="The account's id.")]


@router.get("/users", summary="List the accounts", responses=error_responses(401, 403))
async def list_users(
    _admin_id: AdminId, query: Annotated[UsersQuery, Query()], administration: AdministrationDep
) -> UsersPage:
    """All accounts, newest first, page by page. For administrators.

    Send the `next_cursor` of a page as `cursor` to read the next one, with the same `q`.
    """
    users, next_cursor = await administration.list_page(query.q, query.cursor, query.limit)
    return UsersPage(
        items=[UserDetails.model_validate(user) for user in users], next_cursor=next_cursor
    )


@router.patch(
    "/users/{user_id}",
    summary="Disable or enable an account, or make it an administrator's",
    response_model=UserDetails,
    responses=error_responses(401, 403, 404, 409),
)
async def update_user(
    user_id: UserId, body: UserUpdate, admin_id: AdminId, administration: AdministrationDep
) -> UserSummary:
    """Changes the fields that are sent and leaves the others. For administrators, and not on
    their own account (409), so that there is always one.

    Disabling ends the person's sessions and bearer tokens for good and refuses their API keys
    until the account is enabled again: at once in this process, within a second in every other.
    """
    changes = body.model_dump(include=body.model_fields_set)
    return await administration.change(admin_id, user_id, **changes)


@router.delete(
    "/users/{user_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete an account",
    responses=error_responses(401, 403, 404, 409),
)
async def delete_user(
    user_id: UserId, admin_id: AdminId, administration: AdministrationDep
) -> None:
    """Deletes the account with all it owns: tokens, API keys, history and feedback. This cannot
    be undone. For administrators, and not on their own account (409)."""
    await administration.delete(admin_id, user_id)
