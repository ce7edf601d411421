"""Guessing passwords: after some wrong ones, each costs a longer wait than the one before."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from app.auth.counters import Counters
from app.auth.rate_limit import group_address
from app.exceptions import TooManyRequestsError

# With these an account stands about a hundred guesses a day, the most that NIST SP 800-63B
# (5.2.2) lets go by in a row, and its owner never waits longer than this for the next try.
_LONGEST_DELAY_S = 15 * 60
_ACCOUNT_MEMORY_S = 24 * 3600
_ADDRESS_MEMORY_S = 3600


class TooManySignInsError(TooManyRequestsError):
    """The same words whether or not there is such an account."""

    code = "too_many_sign_ins"
    detail = "Too many wrong passwords. Wait before you try again."


class WrongPasswordGivenError(Exception):
    """Mixed into the errors that say so: what counts as a failed attempt."""


@dataclass(frozen=True, slots=True)
class _Subject:
    key: str
    free: int
    """Failures before the first delay."""
    memory_s: int


class SignInLimit:
    """Counts failed attempts by account, known or not, and by address.

    After `free_per_account` failures of an account (`free_per_address` of an address) the next
    attempt waits one second, then two, four, up to a quarter of an hour. A success forgets the
    account's failures. Those of the address are forgotten after an hour only: who guesses could
    else sign in with an account of their own in between.
    """

    def __init__(self, counters: Counters, *, free_per_account: int, free_per_address: int) -> None:
        self._counters = counters
        self._free_per_account = free_per_account
        self._free_per_address = free_per_address
        # A lock lasts as long as somebody holds it or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def attempt(self, email: str, address: str | None) -> AsyncIterator[None]:
        """Check a password within: a `WrongPasswordGivenError` that leaves it is a failure.

        Raises `TooManySignInsError` before, when the account or the address has to wait.
        """
        # A digest: of bounded length, and nobody's address lies in Redis.
        digest = hashlib.sha256(email.strip().lower().encode(errors="replace")).hexdigest()
        account = _Subject(f"account:{digest}", self._free_per_account, _ACCOUNT_MEMORY_S)
        subjects = [account]
        if address is not None:
            subjects.append(
                _Subject(
                    f"address:{group_address(address)}", self._free_per_address, _ADDRESS_MEMORY_S
                )
            )
        # One at a time: else a hundred guesses at once would all be before the first failure.
        turn = self._turns.setdefault(digest, asyncio.Lock())
        async with turn:
            await self._refuse_early(subjects)
            try:
                yield
            except WrongPasswordGivenError:
                for subject in subjects:
                    await self._count_failure(subject)
                raise
            await self._counters.clear(_failures(account))
            await self._counters.clear(_delay(account))

    async def _refuse_early(self, subjects: list[_Subject]) -> None:
        waits = [await self._counters.remaining_s(_delay(subject)) for subject in subjects]
        longest = max(waits)
        if longest > 0:
            raise TooManySignInsError(retry_after_s=math.ceil(longest))

    async def _count_failure(self, subject: _Subject) -> None:
        failures = await self._counters.increment(_failures(subject), subject.memory_s)
        excess = failures - subject.free
        if excess >= 0:
            delay_s = min(_LONGEST_DELAY_S, 2 ** min(excess, 30))
            await self._counters.increment(_delay(subject), delay_s)


def _failures(subject: _Subject) -> str:
    return f"sign-in:failures:{subject.key}"


def _delay(subject: _Subject) -> str:
    return f"sign-in:delay:{subject.key}"
