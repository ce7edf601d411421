"""What the OpenAPI document says in prose: how to get in, and the WebSocket, which it has no
other place for. The programs in it are run by the tests as they stand."""

DESCRIPTION = """\
Text classification with scikit-learn pipelines and object detection with YOLOS.

## Getting in

Sign up with `POST /register`. Then a call proves who makes it in **one** of three ways, and the
**Authorize** button takes each of them:

| way in | how you get it | how it is sent |
|---|---|---|
| bearer token | `POST /token`, or email and password under Authorize | `Authorization: Bearer …` |
| API key | `POST /me/api-keys`, or the page's account view | `X-API-Key: …` |
| session cookie | `POST /login`, or signing in on [the page](/) | by the browser itself; calls \
that change something also carry `X-CSRF-Token` from `GET /csrf` (this page adds it) |

Errors read `{"detail": "a sentence", "code": "snake_case", "request_id": "…"}`; every answer
carries its `X-Request-ID`, and inference answers a `Server-Timing`.

## WebSocket /object-detection

<details>
<summary>Live detection, frame by frame: messages, close codes, and clients to copy</summary>

Who calls is told as above, or with `?token=` and a bearer token or an API key.

- **You send** binary messages, one encoded image (JPEG, PNG, WebP) each. They are numbered 1, 2,
  3… as they arrive. A text message such as `{"threshold": 0.5, "labels": ["person"],
  "max_objects": 20}` changes the settings from the next frame on.
- **You receive** one JSON message for each frame that was processed: `{"objects": [{"box": [x1,
  y1, x2, y2], "label": "person", "score": 0.98}], "frame": 17, "dropped": 3, "image": {"width":
  640, "height": 480}, "timing": {"decode_ms": 2.1, "queue_ms": 0.2, "inference_ms": 31.5}}`. A
  frame that cannot be decoded is answered by `{"objects": [], "frame": 18, "dropped": 3,
  "error": {"code": "corrupt_image", "detail": "…"}}`, and the stream goes on.
- **Only the newest waiting frame is kept**, so an answer is never about an old picture; `dropped`
  counts those replaced so far. Two frames on their way keep the model busy.

| close code | why |
|---|---|
| 1000 | the normal end |
| 1003 | a text message that is not understood |
| 1008 | not allowed: no identity, or it has ended |
| 1009 | a frame is too big |
| 1011 | a fault of the service |
| 1012 | the service restarts: connect again |
| 1013 | no capacity: try later |

In a browser that is signed in:

```js
const camera = await navigator.mediaDevices.getUserMedia({ video: true });
const video = Object.assign(document.createElement("video"), { srcObject: camera, muted: true });
await video.play();
const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
const socket = new WebSocket("/object-detection");
const send = async () => {
  canvas.getContext("2d").drawImage(video, 0, 0);
  socket.send(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 }));
};
socket.onopen = send;
socket.onmessage = ({ data }) => { console.log(JSON.parse(data).objects); send(); };
socket.onclose = ({ code, reason }) => console.log(code, reason);
```

In Python (`pip install websockets`), with `LOOKOUT=http://127.0.0.1:8000` and an API key:

```python
import asyncio, json, os, pathlib
from websockets.asyncio.client import connect


async def main():
    url = os.environ["LOOKOUT"].replace("http", "ws", 1) + "/object-detection"
    key = {"X-API-Key": os.environ["LOOKOUT_API_KEY"]}
    async with connect(url, additional_headers=key) as stream:
        await stream.send(json.dumps({"threshold": 0.5}))
        await stream.send(pathlib.Path("photo.jpg").read_bytes())
        print(json.loads(await stream.recv())["objects"])


asyncio.run(main())
```

</details>
"""

TAGS = [
    {"name": "Accounts", "description": "Sign up, prove who you are, sessions and API keys."},
    {"name": "Predictions", "description": "Classify texts."},
    {
        "name": "Object detection",
        "description": "Find objects in images. The WebSocket for live pictures is described at "
        "the top of this page.",
    },
    {"name": "History", "description": "What was predicted for you, and what you say of it."},
    {"name": "Models", "description": "What answers, how good it is, and how it was made."},
    {"name": "Operations", "description": "Health and metrics."},
    {"name": "Administration", "description": "For administrators."},
]
