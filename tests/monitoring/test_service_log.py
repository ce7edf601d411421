"""What a real server writes at its most talkative: whose request it was, and nobody's secrets."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url
from websockets.asyncio.client import connect

from tests.databases import temporary_database
from tests.support.pictures import jpeg
from tests.support.servers import running_servers
from tests.support.waiting import until

ACCOUNT = {"email": "ada@example.com", "password": "the password of ada"}


async def test_no_secret_and_no_text_is_in_the_log_and_each_line_says_whose_it_is(
    detection_model: Path, tmp_path: Path
) -> None:
    async with (
        temporary_database("sqlite") as url,
        running_servers(
            1,
            tmp_path,
            DATABASE_URL=url,
            DETECTION_MODEL=str(detection_model),
            LOG_LEVEL="DEBUG",
            LOG_FORMAT="json",
            ACCESS_LOG="true",
            SECRET_KEY="0123456789abcdef-the-key-of-this-test",
        ) as (server,),
        server.client() as client,
    ):
        await client.post("/register", json=ACCOUNT)
        form = {"username": ACCOUNT["email"], "password": ACCOUNT["password"]}
        await client.post("/token", data=form | {"password": "a wrong password"})
        token = (await client.post("/token", data=form)).json()["access_token"]
        await client.post("/login", data=ACCOUNT)
        session = client.cookies["lookout_session"]
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {token}"
        key = (await client.post("/me/api-keys", json={"name": "a key"})).json()["key"]
        answer = await client.post(
            "/prediction", json={"text": "a text of ada"}, headers={"X-Request-ID": "asked-first"}
        )
        record = answer.json()["id"]
        user_id = (await client.get("/me")).json()["id"]
        await client.post("/predictions/batch", json={"texts": ["a batch of ada"]})
        await client.post(
            f"/history/{record}/feedback", json={"label": "wrong", "comment": "a comment of ada"}
        )
        await client.post("/object-detection", files={"image": ("a.jpg", jpeg())})
        # Whatever is refused, and whatever breaks.
        await client.post("/prediction", content=b'{"text": "a broken text of ada')
        await client.get("/me", headers={"Authorization": f"Bearer {token}x"})
        stream_url = f"{server.url.replace('http', 'ws')}/object-detection?token={token}"
        async with connect(stream_url) as stream:
            await stream.send(jpeg())
            await stream.recv()
        path = make_url(url).database
        assert path is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await client.post("/prediction", json={"text": "an unkept text of ada"})
            assert answer.status_code == 503
            other.execute("ROLLBACK")
        await until(lambda: "not kept in the history" in server.log)
        await server.stop()
        log = server.log
    for secret in (
        *(ACCOUNT["password"], "a wrong password", "0123456789abcdef-the-key"),
        *(token, session, key),
        *("a text of ada", "a batch of ada", "a comment of ada", "a broken text of ada"),
        "an unkept text of ada",
    ):
        assert secret not in log, secret
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = [it for it in lines if it.get("request_id") == "asked-first"]
    assert line["user_id"] == user_id
    assert line["model"] == "newsgroups"
