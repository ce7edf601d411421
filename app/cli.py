"""Administration from the command line: `python -m app.cli --help`."""

import argparse
import asyncio
import getpass
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loguru import logger
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app.auth.authenticator import Authenticator
from app.auth.security import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from app.auth.service import Accounts
from app.config import Settings, get_settings
from app.database import Database
from app.doctor import Level, examine
from app.exceptions import AppError
from app.inference import hub
from app.inference.base import ModelLoadError
from app.inference.registry import ModelRegistry
from app.settings_reference import render_env, render_markdown

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_LONGEST_ATTEMPT_S = 5.0

Command = Callable[[argparse.Namespace, Settings], Coroutine[Any, Any, None]]


class CommandError(Exception):
    """A command that cannot be carried out; its text is for the person who gave it."""


def build_parser() -> argparse.ArgumentParser:
    """The command line. Each command names the coroutine function that carries it out in `run`."""
    parser = argparse.ArgumentParser(prog="python -m app.cli", description="Administer Lookout.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_users_commands(commands)
    _add_models_commands(commands)
    _add_wait_for_database_command(commands)
    _add_doctor_command(commands)
    _add_settings_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command. Returns the exit status: 0, or 1 with one clear line on stderr."""
    parsed = build_parser().parse_args(arguments)
    run: Command = parsed.run
    try:
        asyncio.run(run(parsed, get_settings()))
    except ValidationError as error:
        print(f"The settings are wrong: {error}", file=sys.stderr)
    except CommandError as error:
        print(error, file=sys.stderr)
    except ModelLoadError as error:
        print(error, file=sys.stderr)
    except AppError as error:
        print(error.detail, file=sys.stderr)
    except (OSError, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        print(f"The database cannot be used: {reason}", file=sys.stderr)
        print("Is it there, and migrated with `alembic upgrade head`?", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    return 1


# users


def _add_users_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    users = commands.add_parser("users", help="accounts").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = users.add_parser("create-admin", help="open an administrator's account")
    create.add_argument("email", metavar="EMAIL")
    create.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    create.set_defaults(run=_create_admin)
    promote = users.add_parser("promote", help="make an account an administrator's")
    promote.add_argument("email", metavar="EMAIL")
    promote.set_defaults(run=_promote)
    users.add_parser("list", help="list the accounts").set_defaults(run=_list_users)


async def _create_admin(arguments: argparse.Namespace, settings: Settings) -> None:
    password = _read_password(from_stdin=arguments.password_stdin)
    async with _accounts(settings) as accounts:
        try:
            user = await accounts.create(arguments.email, password, is_admin=True)
        except ValueError as error:
            raise CommandError(f"{arguments.email!r} is no email address: {error}") from error
    print(f"{user.email} is an administrator now.")


async def _promote(arguments: argparse.Namespace, settings: Settings) -> None:
    async with _accounts(settings) as accounts:
        user = await accounts.promote(arguments.email)
    print(f"{user.email} is an administrator now.")


async def _list_users(_arguments: argparse.Namespace, settings: Settings) -> None:
    async with _accounts(settings) as accounts:
        for user in await accounts.list_users():
            role = "admin" if user.is_admin else "user"
            state = "" if user.is_active else "  (disabled)"
            print(
                f"{user.id}  {user.created_at:%Y-%m-%d %H:%M:%SZ}  {role:<5}  {user.email}{state}"
            )


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise CommandError("The two passwords differ.")
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise CommandError(
            f"The password needs {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH:,} characters."
        )
    return password


@asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[Accounts]:
    database = Database(settings.database_url, pool_size=1)
    authenticator = Authenticator(settings, database)
    try:
        yield Accounts(authenticator)
    finally:
        await authenticator.close()
        await database.close()


# models


def _add_models_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    models = commands.add_parser("models", help="artifacts and checkpoints").add_subparsers(
        required=True, metavar="COMMAND"
    )
    models.add_parser("list", help="list the artifacts and verify their digests").set_defaults(
        run=_list_models
    )
    pull = models.add_parser("pull", help="fetch a detection checkpoint from the hub")
    pull.add_argument("model", metavar="HUB_ID", help="as hustvl/yolos-tiny")
    pull.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="also copy it here, to carry to a machine without internet (DETECTION_MODEL=FOLDER)",
    )
    pull.set_defaults(run=_pull_model)


async def _list_models(_arguments: argparse.Namespace, settings: Settings) -> None:
    registry = ModelRegistry(settings.models_dir)
    for name in registry.names:
        registry.read_verified(name)
        entry = registry.entry(name)
        print(f"{name}  {registry.version(name)}  {entry.task}  {len(entry.labels)} labels")


async def _pull_model(arguments: argparse.Namespace, settings: Settings) -> None:
    source = hub.fetch(arguments.model, settings.hub_timeout_s)
    folder = source.folder
    if arguments.to is not None:
        arguments.to.mkdir(parents=True, exist_ok=True)
        for file in hub.CHECKPOINT_FILES:
            # The cache holds links; a copy is complete in itself.
            shutil.copyfile(folder / file, arguments.to / file)
        folder = arguments.to
    print(f"{source.name} at {source.revision} is in {folder}")


# wait-for-database


def _add_wait_for_database_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    wait = commands.add_parser("wait-for-database", help="return once the database answers")
    wait.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="give up after this long (default: 60)",
    )
    wait.set_defaults(run=_wait_for_database)


async def _wait_for_database(arguments: argparse.Namespace, settings: Settings) -> None:
    deadline = time.monotonic() + arguments.timeout
    pause_s = _FIRST_PAUSE_S
    # Without the password, as this ends up in logs.
    name = make_url(settings.database_url).render_as_string(hide_password=True)
    database = Database(settings.database_url, pool_size=1)
    try:
        while True:
            remaining_s = deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.1, min(remaining_s, _LONGEST_ATTEMPT_S))):
                    await database.ping()
            except Exception as error:  # Drivers raise what they like while a database starts.
                reason = error.orig if isinstance(error, DBAPIError) else error
            else:
                return
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise CommandError(
                    f"No database at {name} within {arguments.timeout:g} s: {reason!r}"
                )
            await asyncio.sleep(min(pause_s, remaining_s))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    finally:
        await database.close()


# doctor


def _add_doctor_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    commands.add_parser(
        "doctor", help="look for what would keep the service from working"
    ).set_defaults(run=_doctor)


async def _doctor(_arguments: argparse.Namespace, settings: Settings) -> None:
    # What it has to say is among the findings.
    logger.disable("app.inference")
    errors = 0
    async for finding in examine(settings):
        print(finding, flush=True)
        errors += finding.level is Level.ERROR
    if errors:
        raise CommandError(f"{errors} of these must be put right before the service can run well.")


# settings


def _add_settings_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("settings", help="print all settings, documented")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as docs/configuration.md")
    form.add_argument("--env", action="store_true", help="as .env.example (the default)")
    command.set_defaults(run=_print_settings)


async def _print_settings(arguments: argparse.Namespace, _settings: Settings) -> None:
    print(render_markdown() if arguments.markdown else render_env(), end="")


if __name__ == "__main__":
    sys.exit(main())
