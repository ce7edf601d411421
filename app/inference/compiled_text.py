"""TF-IDF with a linear classifier, without scikit-learn's cost per call.

`Pipeline.predict_proba` spends 2 ms on one text, nearly all of it on validation and on building
sparse matrices for one row. The mathematics of the common pipeline (words, TF-IDF, a linear
model, softmax) is a few numpy calls on the handful of columns that a text touches. What is
compiled here is compared with the pipeline itself at load; another kind of pipeline, or one that
does not agree, is served by scikit-learn as it is.
"""

import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

# How far a probability may be from scikit-learn's own: rounding of 32-bit sums, no more.
TOLERANCE = 1e-5

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]


# scikit-learn's default: runs of two or more word characters.
_DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
# In ASCII those runs are what is left between all other characters, which `split` finds four
# times as fast; runs of one character are in no vocabulary.
_ASCII_WORDS = "".join(
    chr(i).lower() if chr(i).isalnum() or chr(i) == "_" else " " for i in range(128)
)


class CompiledTextPipeline:
    """`TfidfVectorizer` of single words, then `LogisticRegression` or `MultinomialNB`."""

    def __init__(self, vectorizer: Any, weights: Floats, intercept: Floats) -> None:
        """`weights`: (words, classes). `intercept`: (classes,)."""
        self._find_words = re.compile(vectorizer.token_pattern).findall
        self._lowercase: bool = vectorizer.lowercase
        self._splits = vectorizer.lowercase and vectorizer.token_pattern == _DEFAULT_PATTERN
        # Stop words were taken out before the vocabulary was made, so they are not in it.
        self._column = vectorizer.vocabulary_.get
        self._sublinear: bool = vectorizer.sublinear_tf
        self._normalised = vectorizer.norm == "l2"
        idf = vectorizer.idf_ if vectorizer.use_idf else np.ones(len(weights))
        self._idf = np.ascontiguousarray(idf, dtype=vectorizer.dtype)
        self._weights = np.ascontiguousarray(weights)
        self._intercept = intercept

    @classmethod
    def compile(cls, pipeline: Any) -> "CompiledTextPipeline | None":
        """The compiled form of a fitted pipeline; None when there is none that agrees with it."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import Pipeline

        if type(pipeline) is not Pipeline or len(pipeline.steps) != 2:
            return None
        (_, vectorizer), (_, classifier) = pipeline.steps
        # Exact types: a subclass may compute anything.
        if type(vectorizer) is not TfidfVectorizer or not _counts_single_words(vectorizer):
            return None
        if type(classifier) is LogisticRegression and len(classifier.classes_) > 2:
            compiled = cls(vectorizer, classifier.coef_.T, classifier.intercept_)
        elif type(classifier) is MultinomialNB:
            log_probabilities = classifier.feature_log_prob_.T
            compiled = cls(vectorizer, log_probabilities, classifier.class_log_prior_)
        else:
            return None
        return compiled if compiled._agrees_with(pipeline, vectorizer) else None

    def predict_proba(self, texts: Sequence[str]) -> list[list[float]]:
        """Probability of each class, a row a text, as the pipeline's own `predict_proba`."""
        scores = np.repeat(self._intercept[None, :], len(texts), axis=0)
        rows, columns, counts = self._count([self._split(text) for text in texts])
        if len(rows):
            # Where each text's part begins, of those that have a known word.
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            scores[rows[starts]] += self._score(columns, counts, starts)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        probabilities: list[list[float]] = scores.tolist()
        return probabilities

    def _split(self, text: str) -> list[str]:
        if self._splits and text.isascii():
            return text.translate(_ASCII_WORDS).split()
        return self._find_words(text.lower() if self._lowercase else text)

    def _count(self, texts: list[list[str]]) -> tuple[Indices, Indices, Indices]:
        """The known words of all texts: their texts, their columns, and how often each is there.

        Ordered by text. One sort for all takes a fifth off a batch of 32 against a `Counter` for
        each text, and makes a lone text half as long again.
        """
        lengths = [len(words) for words in texts]
        words = chain.from_iterable(texts)
        columns = np.fromiter(map(self._column, words, repeat(-1)), np.int64, sum(lengths))
        keys = np.repeat(np.arange(len(texts)) * len(self._weights), lengths) + columns
        keys = np.sort(keys[columns >= 0])
        firsts = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(firsts, append=len(keys))
        rows, columns = np.divmod(keys[firsts], len(self._weights))
        return rows, columns, counts

    def _score(self, columns: Indices, counts: Indices, starts: Indices) -> Floats:
        """TF-IDF rows times weights, (texts, classes): a text is the sum of its segment."""
        values = counts.astype(self._idf.dtype)
        if self._sublinear:
            np.log(values, out=values)
            values += 1
        values *= self._idf.take(columns)
        products = self._weights.take(columns, axis=0)
        products *= values[:, None]
        scores: Floats = np.add.reduceat(products, starts)
        if self._normalised:
            scores /= np.sqrt(np.add.reduceat(values * values, starts))[:, None]
        return scores

    def _agrees_with(self, pipeline: Any, vectorizer: Any) -> bool:
        texts = _canary_texts(list(vectorizer.vocabulary_))
        expected = pipeline.predict_proba(texts)
        found = np.array(self.predict_proba(texts))
        return bool(np.abs(expected - found).max() <= TOLERANCE)


def _counts_single_words(vectorizer: Any) -> bool:
    return (
        vectorizer.analyzer == "word"
        and vectorizer.ngram_range == (1, 1)
        and vectorizer.norm in ("l2", None)
        and vectorizer.input == "content"
        and not vectorizer.binary
        and vectorizer.preprocessor is None
        and vectorizer.tokenizer is None
        and vectorizer.strip_accents is None
        and re.compile(vectorizer.token_pattern).groups <= 1
    )


def _canary_texts(vocabulary: list[str]) -> list[str]:
    """Texts of every length from nothing to thousands of words, known and unknown, repeated."""
    random = np.random.default_rng(0)
    lengths = (0, 1, 2, 5, 20, 100, 400, 2000)
    texts = []
    for length in lengths:
        words = [vocabulary[i] for i in random.integers(len(vocabulary), size=length)]
        words += [*words[: length // 3], "The", "the", "unheard-of", "Straße", "İ", "naïve", "x1"]
        random.shuffle(words)
        texts.append(" ".join(word.upper() if i % 7 == 0 else word for i, word in enumerate(words)))
    return ["", "?!", *texts]
