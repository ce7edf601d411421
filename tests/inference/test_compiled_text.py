"""The compiled text pipeline beside scikit-learn's own, on any text there is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from app.inference.compiled_text import TOLERANCE, CompiledTextPipeline

WORDS = ["disk", "cpu", "Straße", "naïve", "x1", "a_b", "key", "cipher", "ИМЯ", "church"]
TEXTS = [f"{a} {b} {a}" for a in WORDS for b in WORDS]
TOPICS = [i % 3 for i in range(len(TEXTS))]


def fit(vectorizer: Any, classifier: Any) -> Pipeline:
    pipeline: Pipeline = make_pipeline(vectorizer, classifier)
    return pipeline.fit(TEXTS, TOPICS)


COMPILED: dict[str, Callable[[], Pipeline]] = {
    "naive Bayes": lambda: fit(TfidfVectorizer(), MultinomialNB()),
    "logistic regression": lambda: fit(TfidfVectorizer(), LogisticRegression()),
    "sublinear": lambda: fit(TfidfVectorizer(sublinear_tf=True), MultinomialNB()),
    "no norm": lambda: fit(TfidfVectorizer(norm=None), MultinomialNB()),
    "no idf": lambda: fit(TfidfVectorizer(use_idf=False), MultinomialNB()),
    "case kept": lambda: fit(TfidfVectorizer(lowercase=False), MultinomialNB()),
    "stop words": lambda: fit(TfidfVectorizer(stop_words=["cpu", "key"]), MultinomialNB()),
    "32 bits": lambda: fit(TfidfVectorizer(dtype=np.float32), LogisticRegression()),
    "own tokens": lambda: fit(TfidfVectorizer(token_pattern=r"[a-z]+"), MultinomialNB()),
    "one group": lambda: fit(TfidfVectorizer(token_pattern=r"\b(\w)\w+"), MultinomialNB()),
}
NOT_COMPILED: dict[str, Callable[[], Pipeline]] = {
    "pairs of words": lambda: fit(TfidfVectorizer(ngram_range=(1, 2)), MultinomialNB()),
    "characters": lambda: fit(TfidfVectorizer(analyzer="char"), MultinomialNB()),
    "another norm": lambda: fit(TfidfVectorizer(norm="l1"), MultinomialNB()),
    "binary": lambda: fit(TfidfVectorizer(binary=True), MultinomialNB()),
    "accents": lambda: fit(TfidfVectorizer(strip_accents="unicode"), MultinomialNB()),
    "own tokenizer": lambda: fit(
        TfidfVectorizer(tokenizer=str.split, token_pattern=None), MultinomialNB()
    ),
    "counts": lambda: fit(CountVectorizer(), MultinomialNB()),
    "another classifier": lambda: fit(TfidfVectorizer(), ComplementNB()),
    "calibrated": lambda: fit(TfidfVectorizer(), CalibratedClassifierCV(MultinomialNB(), cv=2)),
}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, tuple[Pipeline, CompiledTextPipeline]]:
    both = {}
    for name, make in COMPILED.items():
        pipeline = make()
        compiled = CompiledTextPipeline.compile(pipeline)
        assert compiled is not None, name
        both[name] = (pipeline, compiled)
    return both


@pytest.mark.parametrize("kind", NOT_COMPILED)
def test_other_kinds_are_left_to_scikit_learn(kind: str) -> None:
    assert CompiledTextPipeline.compile(NOT_COMPILED[kind]()) is None


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(COMPILED)),
    texts=st.lists(
        st.one_of(
            st.text(max_size=60),
            st.lists(st.sampled_from([*WORDS, "CPU", "unknown", "a"]), max_size=20).map(" ".join),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_it_answers_as_scikit_learn(
    pipelines: dict[str, tuple[Pipeline, CompiledTextPipeline]], kind: str, texts: list[str]
) -> None:
    pipeline, compiled = pipelines[kind]
    found = np.array(compiled.predict_proba(texts))
    assert np.abs(found - pipeline.predict_proba(texts)).max() <= TOLERANCE
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5
    # Whatever they share a batch with.
    alone = [compiled.predict_proba([text])[0] for text in texts]
    assert np.abs(found - np.array(alone)).max() <= TOLERANCE


@pytest.mark.parametrize("text", ["", " ", "?!", "\x00", "\x1c\x1d\x85\xa0", "ß" * 100, "İİİ", "a"])
def test_texts_at_the_edge(
    pipelines: dict[str, tuple[Pipeline, CompiledTextPipeline]], text: str
) -> None:
    for pipeline, compiled in pipelines.values():
        found = np.array(compiled.predict_proba([text]))
        assert np.abs(found - pipeline.predict_proba([text])).max() <= TOLERANCE
