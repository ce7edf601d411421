"""The HTTP door of accounts."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from app.auth import schemas
from app.auth.browser import check_origin, delete_cookie, set_cookie
from app.auth.dependencies import AccountsDep, CurrentCaller, get_address, get_authenticator
from app.auth.models import TokenKind, User
from app.auth.security import hash_token
from app.auth.service import KeyMakesNoKeysError
from app.exceptions import UnauthorizedError
from app.schemas import error_responses

router = APIRouter(tags=["Accounts"])


def _user_id(caller: CurrentCaller) -> uuid.UUID:
    if caller.user_id is None:
        raise UnauthorizedError
    return caller.user_id


def _client_name(request: Request) -> str:
    name = request.headers.get("user-agent", "")
    return "".join(filter(str.isprintable, name)) or "unknown client"


def _forbid_storing(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


@router.post(
    "/register",
    status_code=201,
    response_model=schemas.UserRead,
    summary="Sign up",
    description="Open an account. Then get a token with `POST /token`, or sign in by cookie with "
    "`POST /login`. An email is one account, whatever its letters' case.",
    responses=error_responses(400, 403, 429, 503),
)
async def register(body: schemas.RegisterRequest, request: Request, accounts: AccountsDep) -> User:
    return await accounts.register(body.email, body.password, get_address(request.scope))


@router.post(
    "/token",
    response_model=schemas.BearerToken,
    summary="Get a bearer token",
    description="The OAuth2 password form: `username` is your email. The answer for an unknown "
    "email and for a wrong password is the same. An account that an administrator has disabled "
    "gets none (403).",
    responses=error_responses(401, 403, 409, 429, 503),
)
async def create_token(
    request: Request,
    response: Response,
    form: Annotated[schemas.PasswordForm, Form()],
    accounts: AccountsDep,
) -> schemas.BearerToken:
    issued = await accounts.sign_in(
        form.username,
        form.password,
        TokenKind.BEARER,
        _client_name(request),
        get_address(request.scope),
    )
    _forbid_storing(response)
    return schemas.BearerToken(
        access_token=issued.token,
        expires_in=get_authenticator(request).settings.access_token_lifetime_s,
    )


@router.post(
    "/login",
    status_code=204,
    summary="Sign in with a cookie",
    description="Start a browser session: the answer sets an HttpOnly cookie. Then ask "
    "`GET /csrf` for the token that calls which change something must carry. Refused (403) from "
    "other sites' pages.",
    responses=error_responses(401, 403, 409, 429, 503),
)
async def login(
    request: Request,
    response: Response,
    email: Annotated[str, Form(min_length=1, examples=["ada.lovelace@example.com"])],
    password: Annotated[str, Form(min_length=1, json_schema_extra={"format": "password"})],
    accounts: AccountsDep,
) -> None:
    authenticator = get_authenticator(request)
    # Else a foreign page could sign its visitor in as somebody else, and read along.
    check_origin(request, authenticator)
    issued = await accounts.sign_in(
        email, password, TokenKind.SESSION, _client_name(request), get_address(request.scope)
    )
    set_cookie(
        response,
        authenticator,
        authenticator.session_cookie,
        issued.token,
        max_age=authenticator.settings.session_lifetime_s,
    )
    _forbid_storing(response)


@router.post(
    "/logout",
    status_code=204,
    summary="Sign out",
    description="Revoke the session, bearer token or API key that this call is made with.",
    responses=error_responses(401, 403, 404),
)
async def logout(
    request: Request, response: Response, caller: CurrentCaller, accounts: AccountsDep
) -> None:
    if caller.token_id is not None:
        await accounts.revoke(_user_id(caller), caller.token_id)
    if caller.transport == "cookie":
        _delete_cookies(request, response)


@router.get(
    "/csrf",
    response_model=schemas.CsrfToken,
    summary="Get a CSRF token",
    description="Sets a cookie that scripts may read, and answers its value. Calls that sign in "
    "by cookie and change something repeat it in `X-CSRF-Token` (double submit); calls with a "
    "bearer token or API key need not. The token belongs to the session: ask again after "
    "signing in.",
)
async def get_csrf(request: Request, response: Response) -> schemas.CsrfToken:
    authenticator = get_authenticator(request)
    session = request.cookies.get(authenticator.session_cookie, "")
    token = authenticator.csrf.make(hash_token(session.encode()))
    set_cookie(
        response,
        authenticator,
        authenticator.csrf_cookie,
        token,
        max_age=authenticator.settings.session_lifetime_s,
        readable=True,
    )
    _forbid_storing(response)
    return schemas.CsrfToken(csrf_token=token)


@router.get(
    "/me",
    response_model=schemas.Me,
    summary="Read your account",
    description="The account behind the token, cookie or API key of this call.",
    responses=error_responses(401),
)
async def read_me(caller: CurrentCaller, accounts: AccountsDep) -> User:
    return await accounts.get(_user_id(caller))


@router.patch(
    "/me",
    response_model=schemas.Me,
    summary="Change your email or password",
    description="Needs the current password. Revokes all other sessions and bearer tokens; API "
    "keys stay, as programs hold them: revoke those with `DELETE /me/tokens/{token_id}`.",
    responses=error_responses(400, 401, 403, 409, 429, 503),
)
async def update_me(
    body: schemas.UpdateMeRequest, caller: CurrentCaller, accounts: AccountsDep
) -> User:
    return await accounts.update(
        _user_id(caller),
        caller.token_id,
        body.current_password,
        email=body.email,
        new_password=body.new_password,
    )


@router.delete(
    "/me",
    status_code=204,
    summary="Delete your account",
    description="Needs the current password. Deletes the account with all it owns: tokens, API "
    "keys, history and feedback. This cannot be undone.",
    responses=error_responses(401, 403, 409, 429, 503),
)
async def delete_me(
    request: Request,
    response: Response,
    body: schemas.DeleteMeRequest,
    caller: CurrentCaller,
    accounts: AccountsDep,
) -> None:
    await accounts.delete(_user_id(caller), body.current_password)
    if caller.transport == "cookie":
        _delete_cookies(request, response)


@router.get(
    "/me/tokens",
    response_model=list[schemas.TokenRead],
    summary="List your sessions, tokens and API keys",
    description="All that is valid now, newest first. The secrets themselves are not kept.",
    responses=error_responses(401),
)
async def list_tokens(caller: CurrentCaller, accounts: AccountsDep) -> list[schemas.TokenRead]:
    return [
        schemas.TokenRead(
            id=token.id,
            kind=TokenKind(token.kind),
            name=token.name,
            created_at=token.created_at,
            last_used_at=token.last_used_at,
            expires_at=token.expires_at,
            current=token.id == caller.token_id,
        )
        for token in await accounts.list_tokens(_user_id(caller))
    ]


@router.delete(
    "/me/tokens/{token_id}",
    status_code=204,
    summary="Revoke a session, token or API key",
    description="It is refused at once by this process, and within a second by every other.",
    responses=error_responses(401, 403, 404),
)
async def revoke_token(token_id: uuid.UUID, caller: CurrentCaller, accounts: AccountsDep) -> None:
    await accounts.revoke(_user_id(caller), token_id)


@router.post(
    "/me/api-keys",
    status_code=201,
    response_model=schemas.ApiKey,
    summary="Make an API key",
    description="The key is answered this one time and sent as `X-API-Key` from then on. An API "
    "key cannot make others (403).",
    responses=error_responses(401, 403),
)
async def create_api_key(
    body: schemas.CreateApiKeyRequest,
    response: Response,
    caller: CurrentCaller,
    accounts: AccountsDep,
) -> schemas.ApiKey:
    if caller.transport == "api_key":
        raise KeyMakesNoKeysError
    issued = await accounts.create_api_key(_user_id(caller), body.name, body.expires_at)
    _forbid_storing(response)
    return schemas.ApiKey(
        id=issued.row.id,
        name=issued.row.name,
        key=issued.token,
        created_at=issued.row.created_at,
        expires_at=issued.row.expires_at,
    )


def _delete_cookies(request: Request, response: Response) -> None:
    authenticator = get_authenticator(request)
    for name in (authenticator.session_cookie, authenticator.csrf_cookie):
        delete_cookie(response, authenticator, name)
