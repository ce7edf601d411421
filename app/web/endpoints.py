"""Serves the web page, the documentation page and their static files."""

import os
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.auth.dependencies import get_authenticator
from app.config import Settings
from app.schemas import Schema

STATIC = Path(__file__).parent / "static"


class Assets(StaticFiles):
    """Static files that browsers ask for again each time, answered 304 while they are the same.

    Their names carry no version: a page kept from before an upgrade must not mix with new modules.
    """

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


class PageSettings(Schema):
    """What the page must know before anybody has signed in."""

    anonymous_inference: bool
    registration_open: bool
    keep_images: bool
    has_session: bool
    """Whether the browser sent a session cookie, be it valid or not."""


assets = Assets(directory=STATIC)
router = APIRouter(include_in_schema=False)
router.mount("/static", assets, name="static")


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The web page."""
    return await assets.get_response("index.html", request.scope)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The API's documentation, to be read and tried out without internet."""
    return await assets.get_response("docs.html", request.scope)


@router.get("/page-settings")
async def page_settings(request: Request, response: Response) -> PageSettings:
    """Public, and no part of the API: it saves the page calls that would only be refused."""
    settings: Settings = request.app.state.settings
    response.headers["Cache-Control"] = "no-store"
    return PageSettings(
        anonymous_inference=settings.anonymous_inference,
        registration_open=settings.registration_open,
        keep_images=settings.keep_images,
        has_session=get_authenticator(request).session_cookie in request.cookies,
    )
