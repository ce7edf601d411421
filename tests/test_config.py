"""Settings that protect: what production refuses to start with."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config import Settings
from app.serve import uvicorn_options

STRONG = "Q3m-7vYtB0x_Zk9LwPd2RfUeHs5JcNaG"


def make(**options: Any) -> Settings:
    return Settings(_env_file=None, **options)


@pytest.mark.parametrize(
    "secret",
    [
        "k" * 48,
        "abcabcabcabcabcabcabcabcabcabcabcabc",
        "changeme-changeme-0123-changeme-xyz-9",
        "My-Very-Long-Password-Of-32-Characters",
        "12345678901234567890123456789012345",
    ],
)
def test_production_refuses_a_secret_that_can_be_guessed(secret: str) -> None:
    with pytest.raises(ValidationError, match="can be guessed"):
        make(environment="production", secret_key=secret)
    assert make(secret_key=secret).secret_key is not None


@pytest.mark.parametrize(
    "secret", [STRONG, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
)
def test_production_takes_a_random_secret(secret: str) -> None:
    settings = make(environment="production", secret_key=secret)
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == secret


class TestSecretKeyFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "secret"
        file.write_text(f"{STRONG}\n")
        file.chmod(0o440)
        return file

    def test_its_content_is_the_key(self, file: Path) -> None:
        settings = make(environment="production", secret_key_file=str(file))
        assert settings.secret_key is not None
        assert settings.secret_key.get_secret_value() == STRONG
        # As one that was given, not one that was made.
        assert "secret_key" in settings.model_fields_set

    def test_production_refuses_one_that_everybody_can_read(self, file: Path) -> None:
        file.chmod(0o444)
        with pytest.raises(ValidationError, match="everybody on this machine can read"):
            make(environment="production", secret_key_file=file)
        assert make(secret_key_file=file).secret_key is not None

    def test_one_that_is_missing_or_empty_is_refused(self, file: Path) -> None:
        with pytest.raises(ValidationError, match="cannot be read"):
            make(secret_key_file=file.with_name("missing"))
        file.chmod(0o600)
        file.write_text("\n")
        with pytest.raises(ValidationError, match="is empty"):
            make(secret_key_file=file)

    def test_two_keys_are_refused(self, file: Path) -> None:
        with pytest.raises(ValidationError, match="not both"):
            make(secret_key_file=file, secret_key=STRONG)

    def test_a_short_one_is_refused_without_being_shown(self, file: Path) -> None:
        file.chmod(0o600)
        file.write_text("tooshort")
        with pytest.raises(ValidationError, match="shorter than") as raised:
            make(secret_key_file=file)
        assert "tooshort" not in str(raised.value)


def test_lists_are_separated_by_commas() -> None:
    settings = make(
        allowed_hosts="lookout.example.com, *.example.org",
        trusted_proxies="10.0.0.0/8, 192.0.2.1,2001:db8::/32",
    )
    assert settings.allowed_hosts == ["lookout.example.com", "*.example.org"]
    assert settings.trusted_proxies == ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


@pytest.mark.parametrize("hosts", ["https://example.com", "a.*.com", "example.com:8000", "*com"])
def test_a_host_that_matches_nothing_is_refused(hosts: str) -> None:
    with pytest.raises(ValidationError):
        make(allowed_hosts=hosts)


@pytest.mark.parametrize("proxies", ["nginx", "10.0.0.1/8", "10.0.0.300"])
def test_a_proxy_that_is_no_network_is_refused(proxies: str) -> None:
    with pytest.raises(ValidationError):
        make(trusted_proxies=proxies)


@pytest.mark.parametrize(
    "settings", [{"detection_backend": "tensorrt"}, {"detection_precision": "int4"}]
)
def test_a_backend_or_precision_that_there_is_not_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Input should be 'auto'"):
        make(**settings)


def test_no_proxy_is_trusted_unasked() -> None:
    assert uvicorn_options(make())["proxy_headers"] is False
    options = uvicorn_options(make(trusted_proxies="10.0.0.0/8"))
    assert options["proxy_headers"] is True
    assert options["forwarded_allow_ips"] == ["10.0.0.0/8"]
