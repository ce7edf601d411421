"""The texts that are sent: as long as newsgroup posts, of the model's own words, never twice."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

SLOT = "@@@@@@@@@@@@@@"
"""Replaced by a number of as many digits in each request; see lua/prediction.lua."""
_SEED = 20
# Common English words fill a third of any post; the model's stop list removes them again.
_FILLERS = """
    the of and to in a is that it for you on be have are with not this as I but they or an if
    would what there all can will about do has my from who one so any me your at by we was how
""".split()  # noqa: SIM905 (forty quoted words read worse)
_SHORTEST, _LONGEST = 200, 1500


@dataclass(frozen=True)
class TextWorkload:
    """Files of request bodies for wrk, and texts with the answers that are right for them."""

    distinct: Path
    """JSON bodies, one a line, each with a slot for a number."""
    fixed: Path
    """One JSON body without slot."""
    samples: list[str]
    categories: list[str]
    """What the pipeline's own `predict` says of `samples`."""


def make_text_workload(model_file: Path, folder: Path, count: int = 2000) -> TextWorkload:
    """Write the bodies into `folder`; the same ones every time."""
    artifact = joblib.load(model_file)
    pipeline = artifact["pipeline"]
    texts = make_texts(pipeline[0], count)
    distinct, fixed = folder / "distinct.jsonl", folder / "fixed.jsonl"
    distinct.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    fixed.write_text(json.dumps({"text": fill_slot(texts[0], 0)}) + "\n")
    # Numbers that no run of wrk uses: those begin with a salt of four digits below 9000.
    samples = [fill_slot(text, 9000 * 10**10 + i) for i, text in enumerate(texts[:200])]
    categories = [artifact["target_names"][i] for i in pipeline.predict(samples)]
    return TextWorkload(distinct, fixed, samples, categories)


def fill_slot(text: str, number: int) -> str:
    """`text` with `number` in its slot."""
    return text.replace(SLOT, f"{number:0{len(SLOT)}d}")


def make_texts(vectorizer: Any, count: int) -> list[str]:
    """Posts of 200 to 1,500 characters (log-normal, half below 600), each with one slot.

    Words come with the document frequency that the fitted `vectorizer` knows, so rows have about
    as many known words as real posts.
    """
    words = vectorizer.get_feature_names_out()
    # Smoothed idf = ln((1 + n) / (1 + df)) + 1, so weights proportional to df + 1.
    weights = np.exp(-np.asarray(vectorizer.idf_, dtype=np.float64))
    generator = np.random.default_rng(_SEED)
    chooser = random.Random(_SEED)
    texts = []
    for _ in range(count):
        length = int(np.clip(generator.lognormal(np.log(600), 0.6), _SHORTEST, _LONGEST))
        drawn = generator.choice(words, size=length // 4, p=weights / weights.sum())
        texts.append(_compose(chooser, [str(word) for word in drawn], length))
    return texts


def _compose(chooser: random.Random, words: list[str], length: int) -> str:
    """Sentences and lines as people write them, `length` characters of them."""
    body: list[str] = []
    size, left_in_sentence, left_in_line, starts = 0, chooser.randint(5, 20), 70, True
    supply = iter(words)
    while size < length:
        word = chooser.choice(_FILLERS) if chooser.random() < 0.35 else next(supply, "again")
        if starts:
            word = word.capitalize()
        left_in_sentence -= 1
        starts = left_in_sentence == 0
        if starts:
            word += chooser.choice(".....?!")
            left_in_sentence = chooser.randint(5, 20)
        left_in_line -= len(word) + 1
        end = " "
        if left_in_line < 0:
            end, left_in_line = "\n", 70
        body.append(word + end)
        size += len(word) + 1
    return f"Message-ID: <{SLOT}>\n{''.join(body)}"[:length]
