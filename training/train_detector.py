"""Train the handwritten-digit detector that ships in ``models/yolos-digits``.

    python -m training.train_detector --output models/yolos-digits [--photos DIR]

Fresh scenes are composed by a second process ahead of the trainer. Checkpoints go to ``--work``;
a run that was interrupted continues from the last one. What is exported is the moving average of
the weights, as a plain ``YolosForObjectDetection`` in the hub's layout.
"""

import argparse
import json
import multiprocessing as mp
import time
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch

from training.average_precision import Found, Truth, mean_average_precision, precision_recall
from training.backgrounds import BackgroundBank, load_photos
from training.detector_loss import corners
from training.detector_module import Network, normalise
from training.detector_trainer import Recipe, Trainer, export
from training.digits import DIGIT_CLASSES, load_digits
from training.scenes import SceneBatch, SceneMaker

BACKGROUND_TILES = 2500
# A scene's windows cost less than the scene, and hold more digits for their tokens.
WINDOWS = [(48, 64), (64, 48), (48, 48), (48, 48)]
WINDOWS_PER_SCENE = 4
WINDOW_SHARE = 0.97
# Scenes are easy at first, and as they will be tested from this share of the run on.
FIRST_EASE = 0.9
EASE_SHARE = 0.6
LOG_EVERY = 100
CHECK_EVERY = 500
CHECKPOINT_EVERY = 1000
_PATIENCE_S = 600


def make_scenes(
    queue: "Queue[SceneBatch]",
    whole: Event,
    ease: "Synchronized[float]",
    recipe: Recipe,
    photos: Path | None,
    start: int,
) -> None:
    """Fill ``queue`` with batches for ever: windows for the most part until ``whole`` is set.

    This is the producer process; ``start`` is the step that training continues from.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(recipe.seed + start)
    bank = BackgroundBank(
        BACKGROUND_TILES, _tile_side(recipe), recipe.seed, load_photos(photos, "train")
    )
    maker = SceneMaker(load_digits("train"), bank, recipe.seed + 1000 + start)
    while True:
        maker.ease = ease.value
        if whole.is_set() or rng.random() > WINDOW_SHARE:
            shape = recipe.shapes[rng.integers(len(recipe.shapes))]
            queue.put(maker.compose(recipe.batch, *shape))
        else:
            shape = WINDOWS[rng.integers(len(WINDOWS))]
            count = recipe.batch * WINDOWS_PER_SCENE
            queue.put(maker.compose(count, *shape, short_edge=recipe.short_edge))


def _tile_side(recipe: Recipe) -> int:
    return max(max(shape) for shape in recipe.shapes)


@torch.inference_mode()
def check(model: Network, batches: list[SceneBatch]) -> dict[str, float]:
    """Measure ``model`` on ready scenes: mAP at IoU 0.5, precision and recall at score 0.5."""
    found: list[Found] = []
    truth: list[Truth] = []
    for batch in batches:
        height, width = batch.images.shape[1:3]
        out = model(normalise(torch.from_numpy(batch.images)))
        scale = torch.tensor([width, height, width, height])
        boxes = (corners(out.pred_boxes) * scale).numpy()
        scores, labels = out.logits.softmax(-1)[..., :-1].max(-1)
        for i in range(len(boxes)):
            found.append(Found(boxes[i], labels[i].numpy(), scores[i].numpy()))
            truth.append(Truth(batch.boxes[i], batch.labels[i]))
    precision, recall = precision_recall(found, truth, 0.5, DIGIT_CLASSES)
    score, _ = mean_average_precision(found, truth, DIGIT_CLASSES)
    return {"map50": score, "precision": precision, "recall": recall}


def train(recipe: Recipe, work: Path, output: Path, photos: Path | None) -> None:
    """Run ``recipe`` to its end, continuing from ``work`` where it holds a checkpoint.

    Raises queue.Empty where the producer process makes no scene for ten minutes.
    """
    trainer = Trainer(recipe)
    if (work / "state.pt").exists():
        trainer.load(work)
    # Progress is watched on fresh scenes of training digits; the test digits stay unseen.
    bank = BackgroundBank(120, _tile_side(recipe), recipe.seed + 1, load_photos(photos, "test"))
    watcher = SceneMaker(load_digits("train"), bank, recipe.seed + 2)
    watched = [watcher.compose(40, *shape) for shape in sorted(set(recipe.shapes))]
    if trainer.step_number == 0:
        trainer.start(watched)
    context = mp.get_context("spawn")
    queue: Queue[SceneBatch] = context.Queue(maxsize=12)
    whole = context.Event()
    ease = context.Value("d", FIRST_EASE)
    producer = context.Process(
        target=make_scenes,
        args=(queue, whole, ease, recipe, photos, trainer.step_number),
        daemon=True,
    )
    producer.start()
    sums: dict[str, float] = {}
    with (work / "log.jsonl").open("a", encoding="utf-8") as log:
        started: float | None = None
        while trainer.done < 1:
            ease.value = max(0.0, FIRST_EASE * (1 - trainer.done / EASE_SHARE))
            if trainer.done >= recipe.whole_from:
                whole.set()
            batch = queue.get(timeout=_PATIENCE_S)
            started = started or time.monotonic() - trainer.seconds
            trainer.seconds = time.monotonic() - started
            for name, part in trainer.step(batch).items():
                sums[name] = sums.get(name, 0.0) + part / LOG_EVERY
            step = trainer.step_number
            if step % LOG_EVERY == 0:
                line = {"step": float(step), "seconds": trainer.seconds} | sums
                sums.clear()
                if step % CHECK_EVERY == 0:
                    line |= check(trainer.average, watched)
                log.write(json.dumps({name: round(value, 4) for name, value in line.items()}))
                log.write("\n")
                log.flush()
            if step % CHECKPOINT_EVERY == 0:
                trainer.save(work)
    producer.terminate()
    trainer.save(work)
    export(trainer.average, output, recipe.short_edge)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("models/yolos-digits"))
    parser.add_argument("--work", type=Path, default=Path("runs/yolos-digits"))
    parser.add_argument("--photos", type=Path, help="a folder of photographs for backgrounds")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=0, help="end by the clock, not by --steps")
    parser.add_argument("--batch", type=int, default=16, help="scenes a step")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = Recipe(
        short_edge=96,
        patch_size=8,
        steps=given.steps,
        minutes=given.minutes,
        batch=given.batch,
        rate=1.5e-3,
        muon_rate=4e-3,
        warm_up=100,
        decay_share=0.4,
        whole_from=0.5,
        seed=given.seed,
    )
    given.work.mkdir(parents=True, exist_ok=True)
    train(recipe, given.work, given.output, given.photos)


if __name__ == "__main__":
    main()
