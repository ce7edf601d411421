"""What endpoints of this and other rooms ask for."""

from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.history.recorder import HistoryRecorder


def get_recorder(connection: HTTPConnection) -> HistoryRecorder:
    """The application's recorder."""
    recorder: Any = connection.app.state.recorder
    assert isinstance(recorder, HistoryRecorder)
    return recorder


RecorderDep = Annotated[HistoryRecorder, Depends(get_recorder)]
