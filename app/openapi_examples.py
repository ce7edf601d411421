"""An example for every body and every answer of the OpenAPI document.

Successful ones are composed of the examples that the schemas' fields carry; refusals are the
sentences that the service really says.
"""

from typing import Any

from app.auth.dependencies import AdminRequiredError, CsrfError, InvalidTokenError
from app.auth.service import (
    AccountChangedError,
    EmailAlreadyExistsError,
    KeyMakesNoKeysError,
    RegistrationClosedError,
    TokenNotFoundError,
    WrongCredentialsError,
    WrongPasswordError,
)
from app.auth.sign_in_limit import TooManySignInsError
from app.exception_handlers import DatabaseUnavailableError
from app.exceptions import (
    AppError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    TooManyRequestsError,
)
from app.history.exceptions import (
    FeedbackExistsError,
    FeedbackNotFoundError,
    HistoryItemNotFoundError,
    InvalidTimeRangeError,
)
from app.inference.base import InferenceTimeoutError, ModelNotFoundError, QueueFullError
from app.inference.images import CorruptImageError, UnsupportedImageError
from app.monitoring.endpoints import NotReadyError

Json = dict[str, Any]

_REQUEST_ID = "8f14e45fceea167a"

# What a status says where an operation has no error of its own for it.
_REFUSALS: dict[str, tuple[str, str]] = {
    "408": ("request_timeout", "The body did not arrive in time."),
    **{
        str(error.status): (error.code, error.detail)
        for error in (
            BadRequestError,
            InvalidTokenError,
            CsrfError,
            NotFoundError,
            ConflictError,
            PayloadTooLargeError,
            UnsupportedImageError,
            CorruptImageError,
            TooManyRequestsError,
            AppError,
            DatabaseUnavailableError,
            InferenceTimeoutError,
        )
    },
}

_OWN_REFUSALS: dict[str, tuple[type[AppError], ...]] = {
    "register": (EmailAlreadyExistsError, RegistrationClosedError),
    "create_token": (WrongCredentialsError, AccountChangedError, TooManySignInsError),
    "login": (WrongCredentialsError, AccountChangedError, TooManySignInsError),
    "update_me": (
        EmailAlreadyExistsError,
        WrongPasswordError,
        AccountChangedError,
        TooManySignInsError,
    ),
    "delete_me": (WrongPasswordError, AccountChangedError, TooManySignInsError),
    "revoke_token": (TokenNotFoundError,),
    "create_api_key": (KeyMakesNoKeysError,),
    "ready": (NotReadyError,),
    "predict": (QueueFullError,),
    "predict_batch": (QueueFullError,),
    "detect": (QueueFullError,),
    "read_model": (ModelNotFoundError,),
    "clear_cache": (AdminRequiredError,),
    "list_history": (InvalidTimeRangeError,),
    "download_history": (InvalidTimeRangeError,),
    "summarise_history": (InvalidTimeRangeError,),
    "get_history_item": (HistoryItemNotFoundError,),
    "delete_history_item": (HistoryItemNotFoundError,),
    "create_feedback": (HistoryItemNotFoundError, FeedbackExistsError),
    "get_feedback": (FeedbackNotFoundError,),
    "update_feedback": (FeedbackNotFoundError,),
    "delete_feedback": (FeedbackNotFoundError,),
}

# Answers that are no JSON.
_TEXTS = {
    "download_history": "id,kind,created_at,model,version,input,labels,result,latency_ms,cached\n"
    "01938d2a-7c4e-7b1f-9d53-5f0c8a6e2b11,text,2026-11-22T09:30:00.000Z,newsgroups,9f2c6d1b7a30,"
    'computer cpu memory ram,comp.sys.mac.hardware,"{""category"": ""comp.sys.mac.hardware""}",'
    "3.2,false\n",
    "metrics": "# HELP lookout_streams_open Open WebSocket streams.\n"
    "# TYPE lookout_streams_open gauge\n"
    "lookout_streams_open 1.0\n",
}

# Of fields that carry no example of their own.
_BY_NAME: Json = {
    "name": "newsgroups",
    "label": "comp.sys.mac.hardware",
    "state": "ready",
    "csrf_token": "q3Jz0mB1xw",
    "device": "cpu",
    "training_data": "20 Newsgroups by date, the 2,149 training posts of four groups",
    "quality": {"metric": "accuracy", "value": 0.9441, "size": 1430},
    "libraries": {"scikit-learn": "1.9.1"},
    "description": "Says which of four newsgroups an English text belongs to.",
    "license": "MIT",
    "notice": None,
    "cursor": None,
    "next_cursor": None,
    "key": "lok_Zr8vN2q…",
    "version": "9f2c6d1b7a30",
    "input_schema": {"type": "string"},
    "duration_s": 12.5,
    "frames_received": 190,
    "frames_processed": 181,
    "frames_dropped": 9,
    "frames_failed": 0,
    "latency_ms": 48.5,
    "count": 12,
}
_BY_FORMAT = {
    "uuid": "01938d2a-7c4e-7b1f-9d53-5f0c8a6e2b11",
    "date-time": "2026-11-22T09:30:00.000Z",
    "date": "2026-11-22",
    "password": "correct horse battery staple",
}


def add_examples(document: Json) -> None:
    """Give every body and answer of `document` that has none an example."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).items():
                _add_example(document, operation, "body", *content)
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).items():
                    _add_example(document, operation, status, *content)


def _add_example(document: Json, operation: Json, place: str, kind: str, content: Json) -> None:
    if "example" in content or "examples" in content:
        return
    name = operation["operationId"]
    if kind.startswith("text/"):
        if name in _TEXTS:
            content["example"] = _TEXTS[name]
    elif kind in ("application/json", "application/x-www-form-urlencoded"):
        if place == "422":
            content["examples"] = _invalid(document, operation, content["schema"])
        elif place.startswith(("4", "5")):
            content["example"] = _refusal(name, place)
        else:
            content["example"] = compose(document, content["schema"], sparing=place == "body")


def _refusal(name: str, status: str) -> Json:
    code, detail = _REFUSALS[status]
    for error in _OWN_REFUSALS.get(name, ()):
        if str(error.status) == status:
            code, detail = error.code, error.detail
    return {"detail": detail, "code": code, "request_id": _REQUEST_ID}


def _invalid(document: Json, operation: Json, schema: Json) -> Json:
    """A payload that breaks the schema; and the error of the operation's own, if it has one."""
    examples: Json = {"invalid": {"value": {"detail": [_invalid_part(document, operation)]}}}
    if "anyOf" in schema:
        examples["refused"] = {"value": _refusal(operation["operationId"], "422")}
    return examples


def _invalid_part(document: Json, operation: Json) -> Json:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        required = _resolve(document, content["schema"]).get("required", [])
        return {"type": "missing", "loc": ["body", *required[:1]], "msg": "Field required"}
    for parameter in operation["parameters"]:
        place = [parameter["in"], parameter["name"]]
        schema = parameter["schema"]
        if "maximum" in schema:
            words = f"Input should be less than or equal to {schema['maximum']}"
            return {"type": "less_than_equal", "loc": place, "msg": words}
        if schema.get("format") == "uuid":
            return {"type": "uuid_parsing", "loc": place, "msg": "Input should be a valid UUID"}
    words = "Input should be a valid string"
    return {"type": "string_type", "loc": place, "msg": words}


def compose(document: Json, schema: Json, name: str = "", *, sparing: bool = False) -> Any:
    """An example of `schema`, the field `name` of another, made of the examples of its parts.

    A sparing one leaves optional fields out that say nothing of what to put there.
    """
    schema = _resolve(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    if name in _BY_NAME and not {"properties", "anyOf"} & schema.keys():
        return _BY_NAME[name]
    if (example := _own_example(schema)) is not None:
        return example
    if choices := schema.get("oneOf", schema.get("anyOf")):
        return compose(document, choices[0], name)
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {
                field: compose(document, part, field)
                for field, part in schema.get("properties", {}).items()
                if field in required or not sparing or _says_what(part)
            }
        case "array":
            return [compose(document, schema.get("items", {}), name.removesuffix("s"))]
        case "boolean":
            return False
        case "integer" | "number":
            return schema.get("minimum", 0)
        case _:
            return _BY_FORMAT.get(schema.get("format", ""), "string")


def _own_example(schema: Json) -> Any:
    for key in ("examples", "enum"):
        if key in schema:
            return schema[key][0]
    return schema.get("example", schema.get("const", schema.get("default")))


def _says_what(schema: Json) -> bool:
    return any(_own_example(part) for part in (schema, *schema.get("anyOf", ())))


def _resolve(document: Json, schema: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
