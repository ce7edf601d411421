"""The pattern everyone writes first: one model object, called inside the endpoint's coroutine.

As in the webcam chapter of most tutorials, the socket's receiver puts frames into a queue of one
and drops the newest when it is full. Deliberately as naive as that; its faults are the point.

Environment: TEXT_MODEL_FILE (joblib), DETECTION_MODEL (folder).
"""

import asyncio
import io
import os
from contextlib import suppress
from typing import Any

import joblib
import torch
from fastapi import FastAPI, UploadFile, WebSocket, WebSocketDisconnect
from PIL import Image
from pydantic import BaseModel
from transformers import YolosForObjectDetection
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

THRESHOLD = 0.7

app = FastAPI()

artifact = joblib.load(os.environ["TEXT_MODEL_FILE"])
pipeline, target_names = artifact["pipeline"], artifact["target_names"]
processor: Any = YolosImageProcessorPil.from_pretrained(os.environ["DETECTION_MODEL"])
detector: Any = YolosForObjectDetection.from_pretrained(os.environ["DETECTION_MODEL"])


class PredictionRequest(BaseModel):
    text: str


class PredictionResponse(BaseModel):
    category: str


def detect(data: bytes) -> list[dict[str, Any]]:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    inputs = processor(images=image, return_tensors="pt")
    with torch.no_grad():
        outputs = detector(pixel_values=inputs["pixel_values"])
    (found,) = processor.post_process_object_detection(
        outputs, threshold=THRESHOLD, target_sizes=torch.tensor([image.size[::-1]])
    )
    return [
        {"box": box, "label": detector.config.id2label[label], "score": score}
        for box, label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
    ]


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/prediction")
async def predict(body: PredictionRequest) -> PredictionResponse:
    (index,) = pipeline.predict([body.text])
    return PredictionResponse(category=target_names[index])


@app.post("/object-detection")
async def upload(image: UploadFile) -> dict[str, Any]:
    return {"objects": detect(await image.read())}


@app.websocket("/object-detection")
async def stream(websocket: WebSocket) -> None:
    await websocket.accept()
    queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(maxsize=1)
    task = asyncio.create_task(answer_frames(websocket, queue))
    number = 0
    try:
        while True:
            data = await websocket.receive_bytes()
            # Numbered as the service does, so that the age of the frame behind an answer is known.
            number += 1
            with suppress(asyncio.QueueFull):
                queue.put_nowait((number, data))
    except WebSocketDisconnect:
        pass
    finally:
        task.cancel()


async def answer_frames(websocket: WebSocket, queue: "asyncio.Queue[tuple[int, bytes]]") -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            number, data = await queue.get()
            await websocket.send_json({"objects": detect(data), "frame": number})
