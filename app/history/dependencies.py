"""What endpoints of this and other rooms ask for."""

import uuid
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.auth.dependencies import CurrentCaller
from app.database import SessionDep
from app.exceptions import UnauthorizedError
from app.history.recorder import HistoryRecorder
from app.history.service import HistoryService


# Async, as FastAPI runs other dependencies in a thread.
async def get_recorder(connection: HTTPConnection) -> HistoryRecorder:
    """The application's recorder."""
    recorder: Any = connection.app.state.recorder
    assert isinstance(recorder, HistoryRecorder)
    return recorder


RecorderDep = Annotated[HistoryRecorder, Depends(get_recorder)]


async def get_owner_id(caller: CurrentCaller) -> uuid.UUID:
    """The id of the account whose history is asked for: a history needs one."""
    if caller.user_id is None:
        raise UnauthorizedError
    return caller.user_id


OwnerId = Annotated[uuid.UUID, Depends(get_owner_id)]


async def get_history_service(session: SessionDep, owner_id: OwnerId) -> HistoryService:
    """The caller's history in the request's transaction."""
    return HistoryService(session, owner_id)


HistoryServiceDep = Annotated[HistoryService, Depends(get_history_service, scope="function")]
