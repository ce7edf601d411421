"""LitServe with the text model. Runs in a virtual environment of its own; imports nothing of ours.

python litserve_app.py PORT MAX_BATCH_SIZE BATCH_TIMEOUT_S     (environment: TEXT_MODEL_FILE)
"""

import os
import sys
from typing import Any

import joblib
import litserve  # type: ignore[import-not-found]


class TextAPI(litserve.LitAPI):  # type: ignore[misc]
    """One text a call, or a list of them where batching is on."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        artifact = joblib.load(os.environ["TEXT_MODEL_FILE"])
        self.pipeline, self.target_names = artifact["pipeline"], artifact["target_names"]

    def decode_request(self, request: dict[str, Any]) -> str:
        text: str = request["text"]
        return text

    def predict(self, x: "str | list[str]") -> Any:
        if isinstance(x, str):
            return self.pipeline.predict([x])[0]
        return list(self.pipeline.predict(x))

    def encode_response(self, output: Any) -> dict[str, str]:
        return {"category": self.target_names[int(output)]}


if __name__ == "__main__":
    port, max_batch_size, batch_timeout = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    api = TextAPI(
        max_batch_size=max_batch_size, batch_timeout=batch_timeout, api_path="/prediction"
    )
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
