import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["T9"], "unknown: T9"),
        (["--flame"], "--flame draws"),
        (["--flame", "S1"], "--flame draws"),
        (["--minutes", "0"], "must be positive"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_server_starts(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert complaint in capsys.readouterr().err
