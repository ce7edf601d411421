import asyncio
import threading

import pytest

from app.auth.models import TokenKind
from app.auth.security import (
    TOKEN_PREFIXES,
    CsrfSigner,
    PasswordHasher,
    has_token_format,
    make_password_context,
    make_token,
    normalize_email,
)
from app.exceptions import ServiceUnavailableError
from tests.auth.support import PASSWORD, QuickPasswords


class TestTokens:
    @pytest.mark.parametrize("kind", list(TokenKind))
    def test_have_their_kinds_format_only(self, kind: TokenKind) -> None:
        token = make_token(kind)
        assert token.startswith(TOKEN_PREFIXES[kind].decode())
        assert len({make_token(kind) for _ in range(100)}) == 100
        assert [other for other in TokenKind if has_token_format(token.encode(), other)] == [kind]
        assert not has_token_format(token.encode() + b"x", kind)


class TestEmail:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [("Ada@Example.COM", "ada@example.com"), ("JOSE\u0301@example.com", "jos\xe9@example.com")],
    )
    def test_has_one_spelling(self, given: str, kept: str) -> None:
        assert normalize_email(given) == kept

    @pytest.mark.parametrize("given", ["", "a", "a@", "A <a@example.com>", "a@b\n.com", "\x00"])
    def test_is_refused(self, given: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            normalize_email(given)


class TestCsrf:
    def test_verifies_its_own_for_the_same_session(self) -> None:
        signer = CsrfSigner("s" * 32)
        token = signer.make(b"session")
        assert signer.verify(token, b"session")
        assert CsrfSigner("s" * 32).verify(token, b"session")
        assert signer.make(b"session") != token

    def test_refuses_all_else(self) -> None:
        signer = CsrfSigner("s" * 32)
        token = signer.make(b"session")
        nonce, _, signature = token.partition(".")
        assert not signer.verify(token, b"other")
        assert not CsrfSigner("t" * 32).verify(token, b"session")
        for forged in ("", ".", nonce, f"{nonce}.", f".{signature}", f"{nonce[:-1]}.{signature}"):
            assert not signer.verify(forged, b"session")


class TestPasswords:
    async def test_the_hash_is_argon2id_of_the_recommended_cost(self) -> None:
        password_hash = make_password_context().hash(PASSWORD)
        assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert len(password_hash) <= 255
        hasher = PasswordHasher()
        assert await hasher.verify(PASSWORD, password_hash) == (True, None)
        assert await hasher.verify(PASSWORD + "x", password_hash) == (False, None)
        hasher.close()

    async def test_old_parameters_are_replaced_only_after_the_right_password(self) -> None:
        old = QuickPasswords(argon2__time_cost=2).hash(PASSWORD)
        hasher = PasswordHasher(QuickPasswords())
        assert await hasher.verify("wrong password", old) == (False, None)
        ok, replacement = await hasher.verify(PASSWORD, old)
        assert ok
        assert replacement is not None
        assert await hasher.verify(PASSWORD, replacement) == (True, None)
        hasher.close()

    async def test_an_unknown_user_costs_one_verification_too(self) -> None:
        context = QuickPasswords()
        hasher = PasswordHasher(context)
        assert await hasher.verify(PASSWORD, None) == (False, None)
        # What no password can be: too long, and a lone surrogate, which JSON can carry.
        assert await hasher.verify("x" * 5000, hasher._dummy_hash) == (False, None)
        assert await hasher.verify("\ud800", hasher._dummy_hash) == (False, None)
        assert [secret for secret, _ in context.verified] == [PASSWORD, "", ""]
        hasher.close()

    async def test_is_computed_off_the_loop_by_few_and_refused_beyond_the_queue(self) -> None:
        context = Held()
        hasher = PasswordHasher(context, workers=2, max_waiting=3)
        context.go_on.clear()
        jobs = [asyncio.create_task(hasher.hash(PASSWORD)) for _ in range(5)]
        await asyncio.to_thread(context.two_running.wait, 10)
        with pytest.raises(ServiceUnavailableError) as raised:
            await hasher.hash(PASSWORD)
        assert raised.value.code == "password_queue_full"
        # One who waits leaves: there is room for one more, and only one.
        jobs.pop().cancel()
        await asyncio.sleep(0)
        jobs.append(asyncio.create_task(hasher.hash(PASSWORD)))
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailableError):
            await hasher.hash(PASSWORD)
        # One who leaves while it is computed frees no place: the thread goes on.
        jobs.pop(0).cancel()
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailableError):
            await hasher.hash(PASSWORD)
        context.go_on.set()
        assert await asyncio.gather(*jobs) == ["hash"] * 4
        assert context.most_at_once == 2
        assert await hasher.hash(PASSWORD) == "hash"
        hasher.close()


class Held:
    """Hashes for as long as the test says."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.two_running = threading.Event()
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def hash(self, secret: str) -> str:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            if self._running == 2:
                self.two_running.set()
        self.go_on.wait(10)
        with self._lock:
            self._running -= 1
        return "hash"

    def verify_and_update(self, secret: str, hash: str) -> tuple[bool, str | None]:  # noqa: A002
        raise NotImplementedError
