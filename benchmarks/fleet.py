"""All servers of a run: the service and its baselines, started when first asked for."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.config import Settings
from benchmarks.errors import BenchmarkError
from benchmarks.http_call import fetch
from benchmarks.servers import Server, ServerPlan, uvicorn_command

ROOT = Path(__file__).resolve().parent.parent
LITSERVE_VENV = ROOT / ".venv-litserve"
LITSERVE_VERSION = "0.2.19"
ACCOUNTS = 4
"""Callers of the service: a person may have eight streams open, and sixteen are measured."""
_PASSWORD = "correct horse battery staple"


def text_model_file() -> Path:
    """The joblib file that every server loads."""
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text())
    (file,) = manifest["models"]["newsgroups"]["files"]
    return ROOT / "models" / str(file)


class Fleet:
    """Servers by name: `service`, `service-800`, `service-openvino`, `echo`, `textbook`,
    `litserve`, `litserve-batching`. Those that were started stay up, idle, until the run ends."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._running: dict[str, Server] = {}
        self._stack = ExitStack()
        self.callers: dict[str, list[dict[str, str]]] = {}
        """Of each service: the headers of its accounts, an API key each."""

    def __getitem__(self, name: str) -> Server:
        if name not in self._running:
            self._running[name] = self._stack.enter_context(self.fresh(name))
        return self._running[name]

    def __contains__(self, name: object) -> bool:
        return name in self._running

    def stop(self, name: str) -> None:
        """End a server before the run's end."""
        if name in self._running:
            self._running.pop(name).stop()

    def close(self) -> None:
        """End all servers."""
        self._stack.close()

    @contextmanager
    def fresh(self, name: str) -> Iterator[Server]:
        """A new process of its own, ended with the context."""
        if name.startswith("litserve"):
            make_litserve_venv()
        plan = self._plan(name)
        if name.startswith("service"):
            self._migrate(plan)
        with Server(plan) as server:
            if name.startswith("service"):
                callers = [{"X-API-Key": make_api_key(server, i)} for i in range(ACCOUNTS)]
                self.callers[name] = callers
                server.headers = {**callers[0], "X-No-Store": "1"}
            yield server

    def _plan(self, name: str) -> ServerPlan:
        common = base_environment()
        models = {
            "TEXT_MODEL_FILE": str(text_model_file()),
            "DETECTION_MODEL": str(self._checkpoint),
        }
        if name in ("echo", "textbook"):
            command = uvicorn_command(f"benchmarks.baselines.{name}")
            return ServerPlan(name, command, self._folder, common | models)
        if name in ("litserve", "litserve-batching"):
            rows, wait_s = ("32", "0.002") if name == "litserve-batching" else ("1", "0")
            script = ROOT / "benchmarks" / "baselines" / "litserve_app.py"
            python = str(LITSERVE_VENV / "bin" / "python")
            command = [python, str(script), "{port}", rows, wait_s]
            return ServerPlan(name, command, self._folder, common | models, "/health")
        settings = {
            "ENVIRONMENT": "development",
            "LOG_LEVEL": "WARNING",
            "ACCESS_LOG": "false",
            "DATABASE_URL": f"sqlite+aiosqlite:///{self._folder / name}.db",
            "MODELS_DIR": str(ROOT / "models"),
            "DETECTION_MODEL": str(self._checkpoint),
            # What `auto` takes with requirements.txt alone, whatever else is installed here.
            "DETECTION_BACKEND": "torch",
        }
        if name == "service-800":
            settings["DETECTION_INPUT_SIZE"] = "800"
        elif name == "service-openvino":
            settings["DETECTION_BACKEND"] = "openvino"
        elif name != "service":
            raise BenchmarkError(f"there is no server named {name!r}")
        command = [sys.executable, "-m", "app.serve"]
        return ServerPlan(name, command, self._folder, common | settings, "/health/ready")

    def _migrate(self, plan: ServerPlan) -> None:
        for path in self._folder.glob(f"{plan.name}.db*"):
            path.unlink()
        finished = subprocess.run(
            [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"],
            cwd=plan.folder,
            env=dict(plan.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            raise BenchmarkError(f"the migration failed:\n{finished.stderr.strip()[-2000:]}")


def base_environment() -> dict[str, str]:
    """This process's environment without anything that would set up the service."""
    names = {name.upper() for name in Settings.model_fields}
    kept: Mapping[str, str] = {k: v for k, v in os.environ.items() if k.upper() not in names}
    return {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def make_api_key(server: Server, number: int) -> str:
    """Sign up and make a key, as a client would."""
    email = f"bench{number}@example.com"
    account = {"email": email, "password": _PASSWORD}
    made = fetch(f"{server.url}/register", body=account)
    token = fetch(f"{server.url}/token", form={"username": email, "password": _PASSWORD})
    if made.status != 201 or token.status != 200:
        raise BenchmarkError(f"signing up failed: {made.content!r}, {token.content!r}")
    bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}
    key = fetch(f"{server.url}/me/api-keys", body={"name": "benchmark"}, headers=bearer)
    if key.status != 201:
        raise BenchmarkError(f"making an API key failed: {key.content!r}")
    answer: str = key.json()["key"]
    return answer


def make_litserve_venv() -> None:
    """LitServe apart from our own pins, with the model's libraries at the same ones."""
    stamp = LITSERVE_VENV / f".litserve-{LITSERVE_VERSION}"
    if stamp.exists():
        return
    print(f"installing LitServe {LITSERVE_VERSION} into {LITSERVE_VENV.name} (once) …", flush=True)
    venv.create(LITSERVE_VENV, with_pip=True, clear=True)
    (LITSERVE_VENV / ".gitignore").write_text("*\n")
    wanted = ("numpy", "scipy", "scikit-learn", "joblib", "uvloop", "httptools")
    pins = [
        line.strip()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.partition("==")[0] in wanted
    ]
    python = str(LITSERVE_VENV / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    finished = subprocess.run(
        [*install, f"litserve=={LITSERVE_VERSION}", *pins],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise BenchmarkError(f"LitServe cannot be installed:\n{finished.stderr.strip()[-2000:]}")
    stamp.touch()
