"""The examples of the OpenAPI document: there is one of everything, and it is true."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openapi_schema_validator import OAS31Validator

from app.exceptions import AppError
from tests.support.service import BASE_URL

_KINDS = ("application/json", "application/x-www-form-urlencoded")


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body and answer that can be written down: where it is, its type, what is said of it."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for place, body in bodies.items():
                for kind, content in body.get("content", {}).items():
                    yield f"{method} {path} {place}", kind, content


def examples_of(content: dict[str, Any]) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    return [example["value"] for example in content.get("examples", {}).values()]


def test_every_body_and_answer_has_an_example(document: dict[str, Any]) -> None:
    without = {
        where
        for where, kind, content in contents(document)
        if kind.startswith((*_KINDS, "text/")) and not examples_of(content)
    }
    assert without == set()


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    checked = 0
    for where, kind, content in contents(document):
        if kind in _KINDS:
            validator = OAS31Validator(content["schema"] | {"components": document["components"]})
            for example in examples_of(content):
                errors = [error.message for error in validator.iter_errors(example)]
                assert errors == [], (where, example)
                checked += 1
    assert checked > 100


def subclasses(kind: type[AppError]) -> Iterator[type[AppError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_refusals_are_sentences_of_the_service(document: dict[str, Any]) -> None:
    sayings = {(str(each.status), each.code, each.detail) for each in subclasses(AppError)}
    # This one comes from a middleware, before there is an endpoint that could raise it.
    sayings.add(("408", "request_timeout", "The body did not arrive in time."))
    for where, kind, content in contents(document):
        status = where.rpartition(" ")[2]
        if kind == "application/json" and status.startswith(("4", "5")):
            for example in examples_of(content):
                if isinstance(example["detail"], str):
                    assert (status, example["code"], example["detail"]) in sayings, where


async def test_what_the_examples_ask_is_answered_as_they_say(app: FastAPI) -> None:
    paths = app.openapi()["paths"]

    def example(path: str, place: str, kind: str = "application/json") -> dict[str, Any]:
        operation = paths[path]["post"]
        body = operation["requestBody"] if place == "body" else operation["responses"][place]
        found: dict[str, Any] = examples_of(body["content"][kind])[0]
        return found

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        made = await http.post("/register", json=example("/register", "body"))
        assert made.status_code == 201, made.text
        assert made.json().keys() == example("/register", "201").keys()
        refused = await http.post("/register", json=example("/register", "body"))
        assert refused.json() | {"request_id": ""} == example("/register", "400") | {
            "request_id": ""
        }
        form = example("/token", "body", "application/x-www-form-urlencoded")
        token = (await http.post("/token", data=form)).json()
        assert token.keys() == example("/token", "200").keys()
        answer = await http.post(
            "/prediction",
            json=example("/prediction", "body"),
            headers={"Authorization": f"Bearer {token['access_token']}"},
        )
        assert answer.json().keys() == example("/prediction", "200").keys()


def test_operations_are_named_as_a_client_would_call_them(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert {"predict", "detect", "list_history"} <= set(names)
