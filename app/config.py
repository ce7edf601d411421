"""Settings: environment variables (or a `.env` file), each documented, none secret by default."""

import secrets
import stat
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_SECRET_LENGTH = 32
# A random secret of 32 characters has about twenty different ones, sixteen hex digits for the
# rest of its length about fourteen; a phrase typed again has fewer.
_MIN_DISTINCT_CHARACTERS = 10
_WEAK_WORDS = ("secret", "password", "changeme", "change-me", "change_me", "example", "123456789")


def _async_driver(url: str) -> str:
    """Name the async driver where a plain URL, as hosting providers give them, does not."""
    scheme, separator, rest = url.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg"}
    drivers["postgresql"] = drivers["postgres"]
    return f"{drivers.get(scheme, scheme)}{separator}{rest}"


def is_guessable(secret: str) -> bool:
    """Whether a secret, though long enough, looks typed and not drawn."""
    has_weak_word = any(word in secret.lower() for word in _WEAK_WORDS)
    return has_weak_word or len(set(secret)) < _MIN_DISTINCT_CHARACTERS


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

    sentry_dsn: SecretStr | None = Field(
        None,
        description=(
            "Report errors to Sentry; needs `pip install -r requirements-observability.txt`."
        ),
    )
    opentelemetry: bool = Field(
        False,
        description=(
            "FastAPI's native traces, metrics and logs; exporters come from OpenTelemetry's own "
            "`OTEL_*` variables with `FASTAPI_OTEL_AUTO_CONFIGURE=true`."
        ),
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
        None, description="Shares limits and the prediction cache between processes when set."
    )

    keep_images: bool = Field(
        True,
        description=(
            "Keep a smaller copy of each image that a person with an account uploads in the "
            "history, in the database: about 100 kB each at the default size."
        ),
    )
    kept_image_edge: int = Field(
        1024, ge=64, le=4096, description="Longest edge of those copies, in pixels."
    )

    # Identity
    secret_key: SecretStr | None = Field(
        None,
        description=(
            f"At least {MIN_SECRET_LENGTH} characters; signs CSRF tokens. Needed in production; "
            "in development each process makes its own."
        ),
    )
    secret_key_file: Path | None = Field(
        None,
        description=(
            "File to read the secret key from instead, as container platforms mount it. In "
            "production nobody but its owner and group may read it."
        ),
    )
    registration_open: bool = Field(True, description="Whether anybody may sign up.")
    registrations_per_minute: int = Field(
        10, ge=1, description="Limit per address on attempts to sign up."
    )
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
    sign_in_attempts: int = Field(
        5,
        ge=1,
        description=(
            "Wrong passwords of an account before the next attempt has to wait: a second, then "
            "two, four, up to a quarter of an hour. The right one makes a new start."
        ),
    )
    sign_in_attempts_per_address: int = Field(
        50, ge=1, description="The same for an address, which makes a new start after an hour."
    )

    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        ["*"],
        description=(
            "Comma-separated names that requests may give as Host, as `lookout.example.com` or "
            "`*.example.com`; others are refused. `*`: any."
        ),
    )
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        [],
        description=(
            "Comma-separated addresses or networks of proxies whose `X-Forwarded-For` and "
            "`X-Forwarded-Proto` are believed; `*`: whoever connects, as over a Unix socket. "
            "Default: none."
        ),
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
    detection_backend: Literal["auto", "torch", "openvino", "onnxruntime"] = Field(
        "auto",
        description=(
            "What computes the detector. `auto`: the fastest that is installed and whose answers "
            "agree with PyTorch's in float32. The last two need `pip install -r "
            "requirements-openvino.txt` or `requirements-onnxruntime.txt`, and a CPU."
        ),
    )
    detection_precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description=(
            "Precision of the detector's matrix products. `auto`: bfloat16 where the processor has "
            "instructions for it, on a GPU bfloat16 or float16, else float32. `int8`, by OpenVINO "
            "or ONNX Runtime, costs some accuracy."
        ),
    )
    cuda_graphs: bool = Field(
        False,
        description=(
            "On a CUDA device, record the detector's pass for each input shape of up to 8 images, "
            "and replay it as one launch. Off, since no card was at hand to measure it."
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
    body_timeout_s: float = Field(
        120.0, gt=0, description="How long a body may take to arrive after its first part."
    )
    max_connections: int = Field(
        4096, ge=1, description="Open connections of one process, streams included."
    )
    max_connections_per_address: int | None = Field(
        None,
        ge=1,
        description=(
            "Open connections of one address to one process, streams and TRUSTED_PROXIES not "
            "counted. Default: none; a proxy has a limit of its own, see deploy/nginx."
        ),
    )
    max_text_length: int = Field(100_000, ge=1, description="Longest text, in characters.")
    max_streams: int = Field(64, ge=0, description="Open WebSocket streams of one process.")
    max_streams_per_caller: int = Field(8, ge=0, description="Open streams of one caller.")
    queue_size: int = Field(
        256, ge=1, description="Items that may wait for a model before callers are refused."
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description=(
            "Limit per account on requests to the models; opening a stream is one. Default: none."
        ),
    )
    requests_per_minute_per_address: int | None = Field(
        None,
        ge=1,
        description=(
            "Limit per address on all requests but probes and metrics, signed in or not; opening "
            "a stream is one. Default: none. Behind a proxy, name it in TRUSTED_PROXIES first."
        ),
    )
    request_timeout_s: float = Field(
        30.0, gt=0, description="Deadline of an inference request, in seconds from its arrival."
    )
    shutdown_delay_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description=(
            "How long it goes on serving at a stop, while `GET /health/ready` already answers 503: "
            "what a load balancer needs to learn of it."
        ),
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
        for name in ("allowed_origins", "allowed_hosts", "trusted_proxies"):
            joined = values.get(name)
            if isinstance(joined, str):
                parts = [part.strip() for part in joined.split(",")]
                if name == "allowed_origins":
                    parts = [part.rstrip("/") for part in parts]
                values[name] = [part for part in parts if part]
        return values

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if "*" in host.removeprefix("*.") and host != "*":
                raise ValueError(f"{host}: a wildcard reads `*.example.com`, or `*` alone")
            if "/" in host or (":" in host and not host.startswith("[")):
                raise ValueError(f"{host}: name the host alone, without scheme, port and path")
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            # What is no network is taken for a name by uvicorn, and then never matches.
            if proxy != "*":
                ip_network(proxy)
        return proxies

    @model_validator(mode="after")
    def _read_secret_file(self) -> Self:
        file = self.secret_key_file
        if file is None:
            return self
        if self.secret_key is not None:
            raise ValueError("give SECRET_KEY or SECRET_KEY_FILE, not both")
        try:
            mode = file.stat().st_mode
            secret = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"SECRET_KEY_FILE cannot be read: {error}") from error
        if self.environment == "production" and mode & stat.S_IROTH:
            raise ValueError(
                f"ENVIRONMENT=production refuses SECRET_KEY_FILE {file}, which everybody on this "
                "machine can read; run `chmod o= ` on it, or mount it with mode 0440"
            )
        if not secret:
            raise ValueError(f"SECRET_KEY_FILE {file} is empty")
        self.secret_key = SecretStr(secret)
        return self

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
            if is_guessable(self.secret_key.get_secret_value()):
                raise ValueError(
                    "ENVIRONMENT=production refuses this SECRET_KEY, since it can be guessed; make "
                    "one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`"
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
