"""Secrets: hashing passwords, making and hashing opaque tokens, signing CSRF tokens.

Nothing here knows HTTP or SQL.
"""

import asyncio
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from email_validator import validate_email
from passlib.context import CryptContext

from app.auth.models import TokenKind
from app.exceptions import ServiceUnavailableError

MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 1024

# The prefix tells people and secret scanners what they found.
TOKEN_PREFIXES = {
    TokenKind.BEARER: b"lko_",
    TokenKind.SESSION: b"lks_",
    TokenKind.API_KEY: b"lkk_",
}
_TOKEN_BYTES = 32
# token_urlsafe(32) is 43 characters.
_TOKEN_LENGTH = 4 + 43

_Result = TypeVar("_Result")
_Parameters = ParamSpec("_Parameters")


def normalize_email(address: str) -> str:
    """The one spelling under which an address is kept: normalised and in lower case.

    Raises ValueError, saying why, for what is not an address. Nothing is asked of the network.
    """
    return validate_email(address, check_deliverability=False).normalized.lower()


def make_token(kind: TokenKind) -> str:
    """A new opaque token: the prefix of its kind and 256 random bits."""
    return TOKEN_PREFIXES[kind].decode() + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: bytes) -> bytes:
    """What is stored of a token. It has 256 random bits, so no salt or slow hash is needed."""
    return hashlib.sha256(token).digest()


def has_token_format(token: bytes, kind: TokenKind) -> bool:
    """Whether `token` can be one of that kind at all; spares a look-up for what cannot."""
    return len(token) == _TOKEN_LENGTH and token.startswith(TOKEN_PREFIXES[kind])


def _is_text(password: str) -> bool:
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return True


class CsrfSigner:
    """Signed double-submit tokens, each bound to one session.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """

    def __init__(self, secret_key: str) -> None:
        self._key = hashlib.sha256(b"csrf:" + secret_key.encode()).digest()

    def make(self, session_hash: bytes) -> str:
        """A new token for the session with that token hash (empty: no session yet)."""
        nonce = secrets.token_hex(16)
        return f"{nonce}.{self._sign(nonce, session_hash)}"

    def verify(self, token: str, session_hash: bytes) -> bool:
        """Whether this service signed `token` for this very session."""
        nonce, _, signature = token.partition(".")
        return hmac.compare_digest(signature.encode(), self._sign(nonce, session_hash).encode())

    def _sign(self, nonce: str, session_hash: bytes) -> str:
        # The session part has one of two fixed lengths, and the separator is no hex digit.
        message = f"{session_hash.hex()}!{nonce}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


class PasswordContext(Protocol):
    """What is used of passlib's CryptContext, which carries no types."""

    def hash(self, secret: str) -> str: ...

    def verify_and_update(self, secret: str, hash: str) -> tuple[bool, str | None]: ...  # noqa: A002


def make_password_context() -> PasswordContext:
    """argon2id with 19 MiB, two passes, one lane.

    https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
    """
    context: PasswordContext = CryptContext(
        schemes=["argon2"],
        argon2__type="ID",
        argon2__memory_cost=19_456,
        argon2__time_cost=2,
        argon2__parallelism=1,
    )
    return context


class PasswordCheck(NamedTuple):
    """`replacement` is the hash to store instead, when the stored one's parameters are old."""

    ok: bool
    replacement: str | None


class PasswordHasher:
    """Hashes and verifies passwords on a small pool of threads with a bounded queue.

    At most `workers` hashes are computed at once, whatever arrives: a flood of sign-ins neither
    holds the event loop nor takes the machine from the models. Over `max_waiting`:
    ServiceUnavailableError.
    """

    def __init__(
        self, context: PasswordContext | None = None, *, workers: int = 2, max_waiting: int = 64
    ) -> None:
        self._context = context or make_password_context()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="password")
        self._capacity = workers + max_waiting
        self._jobs = 0
        self.failures = 0
        """Passwords that did not match, since the start; read by monitoring."""
        self._lock = threading.Lock()
        self._dummy_hash = self._context.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to store for `password`."""
        return await self._run(self._context.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        """Compare with the stored hash, or, for an unknown user (None), take the same time."""
        # No such password was ever accepted, and passlib raises for the very long and for the
        # lone surrogates that JSON can carry.
        if len(password) > MAX_PASSWORD_LENGTH or not _is_text(password):
            password, password_hash = "", None
        ok, replacement = await self._run(
            self._context.verify_and_update, password, password_hash or self._dummy_hash
        )
        known = password_hash is not None
        if not (ok and known):
            self.failures += 1
        return PasswordCheck(ok and known, replacement if known else None)

    def close(self) -> None:
        """Drop what waits; what runs ends by itself within milliseconds."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        with self._lock:
            if self._jobs >= self._capacity:
                raise ServiceUnavailableError(
                    "Too many people are signing in at once. Try again in a moment.",
                    code="password_queue_full",
                )
            self._jobs += 1
        future = self._executor.submit(function, *args, **kwargs)
        # On the future itself: a caller that leaves does not free a thread that still computes.
        future.add_done_callback(self._count_down)
        return await asyncio.wrap_future(future)

    def _count_down(self, _future: Future[_Result]) -> None:
        with self._lock:
            self._jobs -= 1
