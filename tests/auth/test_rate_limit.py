import pytest

from app.auth.rate_limit import RateLimiter, group_address
from app.exceptions import TooManyRequestsError
from tests.auth.support import Clock


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60, 1000])
def test_allows_a_minutes_worth_at_once_and_then_its_rate(per_minute: int) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, clock=clock)
    for _ in range(per_minute):
        limiter.check("a")
    with pytest.raises(TooManyRequestsError) as raised:
        limiter.check("a")
    assert int(raised.value.headers["Retry-After"]) == max(1, -(-60 // per_minute))
    limiter.check("b")
    # Refusals do not count: waiting as told is enough.
    clock.present += 60 / per_minute
    limiter.check("a")
    with pytest.raises(TooManyRequestsError):
        limiter.check("a")
    clock.present += 60
    for _ in range(per_minute):
        limiter.check("a")


def test_remembers_a_bounded_number_of_callers() -> None:
    limiter = RateLimiter(1, capacity=10, clock=Clock())
    for number in range(25):
        limiter.check(str(number))
    with pytest.raises(TooManyRequestsError):
        limiter.check("24")
    limiter.check("0")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unknown", "unknown"),
    ],
)
def test_a_network_is_one_caller(address: str, group: str) -> None:
    assert group_address(address) == group
