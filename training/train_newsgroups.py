"""Trains the text classifier that ships in models/newsgroups.

    python -m training.train_newsgroups [--data-home DIR] [--models-dir models]

The pipeline is chosen by cross-validation on the training posts alone; the test posts are
looked at once, at the end. Posts of one thread quote each other, so folds keep threads whole:
with plain random folds every candidate looks about 3 points better than it is.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import fetch_20newsgroups
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report, log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline

from training.manifest import record_artifact

MODEL_NAME = "newsgroups"
CATEGORIES = ("soc.religion.christian", "talk.religion.misc", "comp.sys.mac.hardware", "sci.crypt")
SEED = 0
FOLDS = 5

_SUBJECT = re.compile(r"^Subject:[ \t]*(?:(?:re|fwd?)(?:\[\d+\])?:[ \t]*)*(.*)$", re.M | re.I)

Targets = NDArray[np.int64]


@dataclass(frozen=True)
class Posts:
    """Texts, their class indices, and the class names that the indices point into."""

    texts: list[str]
    targets: Targets
    target_names: list[str]


@dataclass(frozen=True)
class Candidate:
    """A vectorizer and a classifier, neither fitted."""

    vectorizer: TfidfVectorizer
    classifier: MultinomialNB | ComplementNB | LogisticRegression


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation says of one candidate.

    standard_error is that of the mean accuracy over the folds; features is the mean size of the
    vocabulary.
    """

    candidate: Candidate
    accuracy: float
    standard_error: float
    log_loss: float
    features: float


def candidates() -> list[Candidate]:
    """Return the grid: word TF-IDF with one linear or naive Bayes model on top.

    Both cost one sparse product a text when they serve. Character n-grams and a calibrated
    LinearSVC are left out: see the model card for what they would gain and cost.
    """
    vectorizers = [
        # float32 halves the artifact and moves no probability by more than rounding.
        TfidfVectorizer(dtype=np.float32, **options)
        for options in (
            {"min_df": 2},
            {"sublinear_tf": True, "min_df": 1},
            {"sublinear_tf": True, "min_df": 2},
            {"sublinear_tf": True, "min_df": 3},
            {"sublinear_tf": True, "min_df": 2, "stop_words": "english"},
            {"sublinear_tf": True, "min_df": 3, "stop_words": "english"},
            {
                "sublinear_tf": True,
                "min_df": 2,
                "stop_words": "english",
                "ngram_range": (1, 2),
                "max_features": 40_000,
            },
            {"sublinear_tf": True, "min_df": 3, "stop_words": "english", "ngram_range": (1, 2)},
        )
    ]
    classifiers = [
        MultinomialNB(alpha=0.1),
        MultinomialNB(alpha=0.03),
        MultinomialNB(alpha=0.01),
        ComplementNB(alpha=0.03),
        LogisticRegression(C=100, max_iter=2000),
        LogisticRegression(C=30, class_weight="balanced", max_iter=2000),
        LogisticRegression(C=100, class_weight="balanced", max_iter=2000),
        LogisticRegression(C=300, class_weight="balanced", max_iter=2000),
    ]
    return [Candidate(v, c) for v, c in itertools.product(vectorizers, classifiers)]


def load_posts(subset: str, data_home: Path | None, remove: Sequence[str] = ()) -> Posts:
    """Return the posts of one subset, train or test, downloading them if data_home has none.

    Raises:
        OSError: The posts are not there and cannot be fetched.
    """
    bunch = fetch_20newsgroups(
        subset=subset,
        categories=list(CATEGORIES),
        remove=tuple(remove),
        data_home=None if data_home is None else str(data_home),
    )
    return Posts(
        list(bunch.data), np.asarray(bunch.target, dtype=np.int64), list(bunch.target_names)
    )


def threads_of(texts: Sequence[str]) -> list[str]:
    """Return a key for each post that the posts of its thread share: the subject without Re:.

    A post without a subject is a thread of its own.
    """
    threads = []
    for number, text in enumerate(texts):
        match = _SUBJECT.search(text)
        subject = match.group(1).strip().lower() if match else ""
        threads.append(subject or f"\n{number}")  # no subject holds a line break
    return threads


def cross_validate(grid: Sequence[Candidate], posts: Posts) -> list[CrossValidation]:
    """Score each candidate on folds of the posts that keep threads whole.

    Raises:
        ValueError: A class has fewer posts than there are folds.
    """
    splitter = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=SEED)
    splits = list(splitter.split(posts.texts, posts.targets, threads_of(posts.texts)))
    results = []
    # Candidates that share a vectorizer share its matrices.
    for _, group in itertools.groupby(grid, key=lambda candidate: id(candidate.vectorizer)):
        members = list(group)
        scores = np.empty((len(members), len(splits), 2))
        features = []
        for fold, (train, held_out) in enumerate(splits):
            vectorizer = clone(members[0].vectorizer)
            train_matrix = vectorizer.fit_transform([posts.texts[i] for i in train])
            held_out_matrix = vectorizer.transform([posts.texts[i] for i in held_out])
            features.append(train_matrix.shape[1])
            truth = posts.targets[held_out]
            for row, member in enumerate(members):
                classifier = clone(member.classifier).fit(train_matrix, posts.targets[train])
                # Rows of float32 sum to 1 only within float32's rounding, which log_loss warns of.
                probabilities = classifier.predict_proba(held_out_matrix).astype(np.float64)
                probabilities /= probabilities.sum(axis=1, keepdims=True)
                predicted = classifier.classes_[probabilities.argmax(axis=1)]
                scores[row, fold] = (
                    accuracy_score(truth, predicted),
                    log_loss(truth, probabilities, labels=classifier.classes_),
                )
        results += [
            CrossValidation(
                candidate=member,
                accuracy=float(scores[row, :, 0].mean()),
                standard_error=float(scores[row, :, 0].std(ddof=1) / np.sqrt(len(splits))),
                log_loss=float(scores[row, :, 1].mean()),
                features=float(np.mean(features)),
            )
            for row, member in enumerate(members)
        ]
    return results


def choose(results: Sequence[CrossValidation]) -> CrossValidation:
    """Return the smallest candidate whose accuracy is within one standard error of the best.

    This is the one-standard-error rule (Breiman et al., Classification and Regression Trees,
    1984, section 3.4.3). Size is the number of features, which decides how fast and how large the
    artifact is; among equals the lowest log loss wins, for clients see the probabilities.
    """
    best = max(results, key=lambda result: result.accuracy)
    floor = best.accuracy - best.standard_error
    return min(
        (result for result in results if result.accuracy >= floor),
        key=lambda result: (result.features, result.log_loss),
    )


def fit(candidate: Candidate, posts: Posts) -> Pipeline:
    """Return the candidate as a pipeline fitted on all the posts."""
    pipeline = Pipeline(
        [("tfidf", clone(candidate.vectorizer)), ("classifier", clone(candidate.classifier))]
    )
    pipeline.fit(posts.texts, posts.targets)
    vectorizer = pipeline["tfidf"]
    # min_df and max_features leave NumPy integers, which are larger and slower to load.
    vectorizer.vocabulary_ = {
        term: int(index) for term, index in sorted(vectorizer.vocabulary_.items())
    }
    return pipeline


def baseline() -> Pipeline:
    """Return what the model is measured against: both parts with scikit-learn's defaults."""
    return Pipeline([("tfidf", TfidfVectorizer()), ("classifier", MultinomialNB())])


def save(pipeline: Pipeline, target_names: Sequence[str], models_dir: Path) -> str:
    """Write {"pipeline": ..., "target_names": [...]} and return its path relative to models_dir.

    The file is replaced in one step. It is not compressed, so that it loads fast.
    """
    relative = f"{MODEL_NAME}/pipeline.joblib"
    path = models_dir / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    # A memory address that transform keeps as a cache key: no two runs would write the same bytes.
    vars(pipeline["tfidf"]).pop("_stop_words_id", None)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        artifact = {"pipeline": pipeline, "target_names": list(target_names)}
        joblib.dump(artifact, temporary, compress=0)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return relative


def accuracy(pipeline: Pipeline, posts: Posts) -> float:
    """Return the share of posts that the pipeline puts into their own group."""
    return float(accuracy_score(posts.targets, pipeline.predict(posts.texts)))


def _describe(candidate: Candidate) -> str:
    text = f"{candidate.vectorizer!r} {candidate.classifier!r}".replace("\n", " ")
    return re.sub(r" {2,}", " ", text).replace("dtype=<class 'numpy.float32'>, ", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, fit, measure and record the newsgroups pipeline."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data-home",
        type=Path,
        help="folder of scikit-learn's data sets (default: scikit-learn's own)",
    )
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    options = parser.parse_args(arguments)

    try:
        train = load_posts("train", options.data_home)
        test = load_posts("test", options.data_home)
        body_only = load_posts("test", options.data_home, ("headers", "footers", "quotes"))
    except OSError as error:
        sys.exit(
            f"The posts cannot be read or fetched: {error}\n"
            "Without internet, pass --data-home with a folder that holds 20news-bydate_py3.pkz."
        )

    results = cross_validate(candidates(), train)
    for result in sorted(results, key=lambda result: result.accuracy):
        print(
            f"{result.accuracy:.4f} ±{result.standard_error:.4f}"
            f"  log loss {result.log_loss:.3f}  features {result.features:7,.0f}"
            f"  {_describe(result.candidate)}"
        )
    chosen = choose(results)
    print(f"\nChosen: {_describe(chosen.candidate)}")

    pipeline = fit(chosen.candidate, train)
    reference = baseline().fit(train.texts, train.targets)
    measured = accuracy(pipeline, test)
    measured_baseline = accuracy(reference, test)
    measured_body = accuracy(pipeline, body_only)
    print(f"Test posts: {len(test.texts)}")
    print(f"  accuracy                                    {measured:.4f}")
    print(f"  accuracy, default TfidfVectorizer and MultinomialNB {measured_baseline:.4f}")
    print(f"  accuracy without headers, footers, quotes   {measured_body:.4f}")
    print(f"  the default pipeline there                  {accuracy(reference, body_only):.4f}\n")
    print(
        classification_report(
            test.targets, pipeline.predict(test.texts), target_names=test.target_names, digits=3
        )
    )

    file = save(pipeline, train.target_names, options.models_dir)
    record_artifact(
        options.models_dir,
        MODEL_NAME,
        task="text-classification",
        format="joblib",
        files=[file],
        labels=train.target_names,
        training_data=(
            f"20 Newsgroups by date, the {len(train.texts):,} training posts of four groups, "
            "with headers, footers and quotes"
        ),
        quality={
            "metric": "accuracy",
            "value": round(measured, 4),
            "baseline": round(measured_baseline, 4),
            "value_without_headers_footers_quotes": round(measured_body, 4),
            "dataset": "20 Newsgroups by date, test posts of the same groups",
            "size": len(test.texts),
        },
        description="Says which of four newsgroups an English text belongs to.",
        license="MIT",
        libraries=["scikit-learn", "joblib", "numpy", "scipy"],
    )
    print(f"Wrote {options.models_dir / file}")


if __name__ == "__main__":
    main()
