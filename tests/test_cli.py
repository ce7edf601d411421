"""The command line, and prestart.sh."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import StringIO

import pytest
from sqlalchemy import select, update

from app.auth.models import User
from app.auth.security import make_password_context
from app.cli import main
from app.config import get_settings
from app.database import Database, now
from tests.databases import ROOT, temporary_database

Cli = Callable[..., Awaitable[tuple[int, str, str]]]

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with temporary_database(request.param) as url:
        yield url


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """One command line, without the seconds that a process takes to start."""

    async def cli(url: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setattr(sys, "stdin", StringIO(stdin))
        get_settings.cache_clear()
        # In a thread, because the command runs an event loop of its own.
        code = await asyncio.to_thread(main, arguments)
        return code, *capsys.readouterr()

    yield cli
    get_settings.cache_clear()


async def run_process(url: str, *command: str) -> tuple[int, str]:
    """The exit status, and what it wrote to standard error."""
    # The interpreter of the tests comes first, as an activated environment has it.
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": url, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def find_user(url: str, email: str) -> User | None:
    database = Database(url)
    async with database.sessions() as session:
        user = await session.scalar(select(User).where(User.email == email))
    await database.close()
    return user


async def test_makes_an_administrator(cli: Cli, url: str) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    arguments = ("users", "create-admin", email.upper(), "--password-stdin")
    code, stdout, stderr = await cli(url, *arguments, stdin=PASSWORD + "\n")
    assert (code, stdout, stderr) == (0, f"{email} is an administrator now.\n", "")
    user = await find_user(url, email)
    assert user is not None
    assert user.is_admin
    assert make_password_context().verify_and_update(PASSWORD, user.password_hash)[0]
    code, stdout, stderr = await cli(url, *arguments, stdin=PASSWORD + "\n")
    assert (code, stdout, stderr) == (1, "", "Email already exists\n")
    code, stdout, stderr = await cli(url, "users", "list")
    assert code == 0
    assert f"admin  {email}\n" in stdout

    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.execute(update(User).where(User.email == email).values(disabled_at=now()))
    await database.close()
    _, stdout, _ = await cli(url, "users", "list")
    assert f"admin  {email}  (disabled)\n" in stdout


@pytest.mark.parametrize(
    ("email", "password", "message"),
    [
        ("nobody", PASSWORD, "'nobody' is no email address: An email address must have an @-sign."),
        ("short@example.com", "short", "The password needs 8 to 1,024 characters."),
        ("none@example.com", "", "The password needs 8 to 1,024 characters."),
    ],
)
async def test_refuses_what_is_no_account(
    cli: Cli, url: str, email: str, password: str, message: str
) -> None:
    arguments = ("users", "create-admin", email, "--password-stdin")
    assert await cli(url, *arguments, stdin=password) == (1, "", message + "\n")
    assert await find_user(url, email) is None


async def test_promotes(cli: Cli, url: str) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    database = Database(url)
    async with database.sessions.begin() as session:
        session.add(User(email=email, password_hash="none"))
    await database.close()
    assert (await cli(url, "users", "promote", email.upper()))[0] == 0
    user = await find_user(url, email)
    assert user is not None
    assert user.is_admin
    assert await cli(url, "users", "promote", "nobody@example.com") == (
        1,
        "",
        "There is no account with this email.\n",
    )


async def test_says_when_the_database_is_not_migrated(cli: Cli) -> None:
    async with temporary_database("sqlite", migrate=False) as empty:
        code, stdout, stderr = await cli(empty, "users", "list")
    assert (code, stdout) == (1, "")
    assert "alembic upgrade head" in stderr
    assert "Traceback" not in stderr


async def test_waits_for_the_database(cli: Cli, url: str) -> None:
    assert await cli(url, "wait-for-database", "--timeout", "30") == (0, "", "")


async def test_gives_up_waiting_with_one_line_and_no_password(cli: Cli) -> None:
    # Port 1 is the one nobody listens on.
    away = "postgresql://lookout:verysecret@127.0.0.1:1/lookout"
    code, stdout, stderr = await cli(away, "wait-for-database", "--timeout", "0.3")
    assert (code, stdout) == (1, "")
    assert stderr.startswith("No database at postgresql+asyncpg://lookout:***@127.0.0.1:1/lookout")
    assert stderr.count("\n") == 1
    assert "verysecret" not in stderr


async def test_asks_for_the_password_twice(
    cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    answers = [PASSWORD, "another good password", PASSWORD, PASSWORD]
    monkeypatch.setattr("getpass.getpass", lambda _prompt: answers.pop(0))
    code, stdout, stderr = await cli(url, "users", "create-admin", email)
    assert (code, stdout, stderr) == (1, "", "The two passwords differ.\n")
    assert (await cli(url, "users", "create-admin", email))[0] == 0
    assert answers == []


async def test_says_what_is_wrong_with_the_settings(
    cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "tooshort")
    code, stdout, stderr = await cli(url, "users", "list")
    assert (code, stdout) == (1, "")
    assert "SECRET_KEY is shorter than 32 characters" in stderr
    assert "tooshort" not in stderr


async def test_prestart_migrates() -> None:
    async with temporary_database("sqlite", migrate=False) as empty:
        code, stderr = await run_process(empty, "./prestart.sh")
        assert code == 0, stderr
        assert await find_user(empty, "nobody@example.com") is None


async def test_starts_without_torch() -> None:
    heavy = "{'torch', 'transformers', 'sklearn'}"
    code = f"import sys, app.cli; sys.exit(bool({heavy} & set(sys.modules)))"
    assert await run_process("sqlite://", sys.executable, "-c", code) == (0, "")
