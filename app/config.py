"""Settings: environment variables (or a `.env` file), each documented, none secret by default."""

import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_SECRET_LENGTH = 32


def _async_driver(url: str) -> str:
    """Name the async driver where a plain URL, as hosting providers give them, does not."""
    scheme, separator, rest = url.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg"}
    drivers["postgresql"] = drivers["postgres"]
    return f"{drivers.get(scheme, scheme)}{separator}{rest}"


class Settings(BaseSettings):
    """All settings. The name of the variable is the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    # The service
    environment: Literal["development", "production"] = Field(
        "development", description="`production` demands a secret key and secure cookies."
    )
    debug: bool = Field(False, description="Tracebacks in the log of development only.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    log_format: Literal["text", "json"] | None = Field(
        None, description="Default: text in development, JSON lines in production."
    )
    access_log: bool | None = Field(
        None,
        description="One line for each request. Default: in development only; it has a price.",
    )
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that `GET /metrics` asks for. Default: open to all."
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Serve the metrics on this port, and no longer at `GET /metrics`.",
    )

    # Storage
    database_url: Annotated[str, AfterValidator(_async_driver)] = Field(
        "sqlite+aiosqlite:///data/lookout.db",
        description="SQLAlchemy URL: SQLite (default) or `postgresql://user:password@host/name`.",
    )
    database_pool_size: int = Field(
        10, ge=1, description="PostgreSQL connections a process keeps; twice as many under load."
    )
    redis_url: SecretStr | None = Field(
        None, description="Shares the prediction cache between processes when set."
    )

    # Identity
    secret_key: SecretStr | None = Field(
        None,
        description=(
            f"At least {MIN_SECRET_LENGTH} characters; signs CSRF tokens. Needed in production; "
            "in development each process makes its own."
        ),
    )
    registration_open: bool = Field(True, description="Whether anybody may sign up.")
    access_token_lifetime_s: int = Field(
        86_400, ge=60, description="Life of a bearer token, in seconds."
    )
    session_lifetime_s: int = Field(
        14 * 86_400, ge=60, description="Life of a browser session, in seconds."
    )
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        [],
        description=(
            "Comma-separated origins, as `https://app.example.com`, that may call from a browser "
            "(CORS, WebSocket), beside the service's own."
        ),
    )
    anonymous_inference: bool = Field(
        False, description="Serve predictions and detection without identity, keeping nothing."
    )
    anonymous_requests_per_minute: int = Field(
        60, ge=1, description="Limit per address for callers without identity."
    )

    # Models
    models_dir: Path = Field(Path("models"), description="Folder of artifacts and manifest.")
    text_model: str = Field("newsgroups", description="Name in the manifest.")
    detection_model: str = Field(
        "auto",
        description=(
            "A hub id, a folder, or `auto`: hustvl/yolos-tiny where it is cached or can be "
            "fetched, else the digits model that ships."
        ),
    )
    detection_input_size: int | None = Field(
        None,
        ge=16,
        le=1333,
        description="Shortest edge of the input in pixels. Default: the model's own choice.",
    )
    detection_threshold: float = Field(
        0.7, ge=0, le=1, description="Lowest score answered when the caller names none."
    )
    hub_timeout_s: float = Field(
        4.0, gt=0, le=60, description="Longest wait for an unreachable model hub at start."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="`auto`, `cpu`, `cuda:N` or `mps`.",
    )
    detection_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description=(
            "Precision of the detector's matrix products. `auto`: bfloat16 where the processor has "
            "instructions for it, on a GPU bfloat16 or float16, else float32."
        ),
    )
    cpu_threads: int | None = Field(
        None, ge=1, description="Threads of a model call. Default: cores / WEB_CONCURRENCY."
    )
    web_concurrency: int = Field(1, ge=1, description="Server processes on this machine.")

    # Limits
    max_json_bytes: int = Field(8 * 2**20, ge=1, description="Largest body that is not an image.")
    max_image_bytes: int = Field(16 * 2**20, ge=1, description="Largest encoded image.")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Largest image, checked before it is decoded."
    )
    max_text_length: int = Field(100_000, ge=1, description="Longest text, in characters.")
    max_streams: int = Field(64, ge=0, description="Open WebSocket streams of one process.")
    max_streams_per_caller: int = Field(8, ge=0, description="Open streams of one caller.")
    queue_size: int = Field(
        256, ge=1, description="Items that may wait for a model before callers are refused."
    )
    request_timeout_s: float = Field(
        30.0, gt=0, description="Deadline of an inference request, in seconds from its arrival."
    )
    shutdown_timeout_s: float = Field(
        10.0, gt=0, description="How long work in progress may take to end at shutdown."
    )
    prediction_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Memory for remembered predictions; 0 turns them off."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        origins = values.get("allowed_origins")
        if isinstance(origins, str):
            values["allowed_origins"] = [
                origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()
            ]
        return values

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.secret_key and len(self.secret_key.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError(
                f"SECRET_KEY is shorter than {MIN_SECRET_LENGTH} characters; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(48))'`"
            )
        if self.environment == "production":
            if self.secret_key is None:
                raise ValueError(
                    "ENVIRONMENT=production needs a SECRET_KEY; make one with "
                    "`python -c 'import secrets; print(secrets.token_urlsafe(48))'`"
                )
            if self.debug:
                raise ValueError("ENVIRONMENT=production refuses DEBUG=true")
        elif self.secret_key is None:
            self.secret_key = SecretStr(secrets.token_urlsafe(48))
            # Nobody has set it: what asks for that must not be told otherwise.
            self.model_fields_set.discard("secret_key")
        return self

    @property
    def effective_log_format(self) -> Literal["text", "json"]:
        """`log_format`, or the environment's default."""
        return self.log_format or ("json" if self.environment == "production" else "text")

    @property
    def effective_access_log(self) -> bool:
        """`access_log`, or the environment's default."""
        return self.environment == "development" if self.access_log is None else self.access_log

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are sent over TLS only."""
        return self.environment == "production"


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
