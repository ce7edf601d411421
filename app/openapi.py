"""What the OpenAPI document says of many operations alike, added in one place."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.openapi_examples import add_examples
from app.schemas import ErrorResponse, error_responses

# Of what takes a body: one that cannot be parsed, does not arrive, is too large.
_BODY_STATUSES = (400, 408, 413)
# Of what asks who is calling: without the database nobody is known.
_IDENTITY_STATUSES = (503,)

_INVALID = {"$ref": "#/components/schemas/HTTPValidationError"}


def complete_document(app: FastAPI) -> None:
    """Add to the document of `app` what its outer layers answer, and examples of everything."""
    generate = app.openapi
    reference = {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}

    def openapi() -> dict[str, Any]:
        document = generate()
        for operation in _operations(document):
            _share_body(document, operation)
            statuses: tuple[int, ...] = ()
            if "requestBody" in operation:
                statuses += _BODY_STATUSES
            if "security" in operation:
                statuses += _IDENTITY_STATUSES
            for status, response in error_responses(*statuses).items():
                operation["responses"].setdefault(
                    str(status),
                    {
                        "description": response["description"],
                        "content": {"application/json": {"schema": reference}},
                    },
                )
            refused = operation["responses"].get("422", {}).get("content", {})
            if refused.get("application/json", {}).get("schema") == reference:
                # Endpoints with a 422 of their own have FastAPI's as well.
                refused["application/json"]["schema"] = {"anyOf": [reference, _INVALID]}
        add_examples(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _share_body(document: dict[str, Any], operation: dict[str, Any]) -> None:
    """Move a body's schema that stands in `operation` itself to the shared ones, under its name."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "title" in schema and "properties" in schema:
            document["components"]["schemas"][schema["title"]] = schema
            content["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}


def name_operation(route: APIRoute) -> str:
    """The function's name as `operationId`: generated clients call their functions by it."""
    return route.name


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()
