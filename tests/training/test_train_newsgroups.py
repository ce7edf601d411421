import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from training.train_newsgroups import (
    Candidate,
    CrossValidation,
    Posts,
    accuracy,
    choose,
    cross_validate,
    fit,
    main,
    save,
    threads_of,
)

MODELS_DIR = Path(__file__).parents[2] / "models"

COMPUTER = ["monitor", "keyboard", "disk", "memory", "processor", "cable", "printer"]
CRYPTOGRAPHY = ["cipher", "key", "encryption", "secret", "escrow", "chip", "algorithm"]

# What is in memory where, and the order of sets, differ from process to process.
FIT_AND_SAVE = """
import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from training.train_newsgroups import Candidate, Posts, fit, save

padding = [bytearray(int(n)) for n in np.random.default_rng().integers(1, 10_000, 1000)]
posts = Posts(["a key cipher", "key cipher of", "disk cable", "cable disk"],
              np.array([1, 1, 0, 0]), ["computer", "cryptography"])
vectorizer = TfidfVectorizer(min_df=2, stop_words="".join(["eng", "lish"]))
candidate = Candidate(vectorizer, LogisticRegression(C=100))
pipeline = fit(candidate, posts)
pipeline.predict(posts.texts)
save(pipeline, posts.target_names, Path(sys.argv[1]))
"""


def posts_of_two_groups(threads_per_group: int = 8, posts_per_thread: int = 3) -> Posts:
    rng = np.random.default_rng(0)
    texts = []
    targets = []
    for target, words in enumerate((COMPUTER, CRYPTOGRAPHY)):
        for thread in range(threads_per_group):
            for post in range(posts_per_thread):
                body = " ".join(rng.choice(words, 5))
                reply = "Re: " * post
                texts.append(f"From: someone\nSubject: {reply}{target}-{thread}\n\n{body}")
                targets.append(target)
    return Posts(texts, np.asarray(targets, dtype=np.int64), ["computer", "cryptography"])


def result(accuracy: float, features: float, log_loss: float = 0.1) -> CrossValidation:
    return CrossValidation(
        candidate=Candidate(TfidfVectorizer(), MultinomialNB()),
        accuracy=accuracy,
        standard_error=0.01,
        log_loss=log_loss,
        features=features,
    )


def test_replies_belong_to_the_thread_of_the_first_post() -> None:
    threads = threads_of(
        ["Subject: SCSI cable\n\nx", "From: a\nSubject: Re: RE: scsi cable\n\ny", "Subject: Fwd: z"]
    )

    assert threads[0] == threads[1]
    assert threads[2] != threads[0]


def test_posts_without_a_subject_are_threads_of_their_own() -> None:
    assert len(set(threads_of(["no header", "none here", "Subject:\n\nblank", "Subject: 1"]))) == 4


def test_cross_validation_tells_a_good_candidate_from_one_that_cannot_learn() -> None:
    vectorizer = TfidfVectorizer()
    grid = [
        Candidate(vectorizer, LogisticRegression(C=100)),
        Candidate(vectorizer, LogisticRegression(C=1e-9)),
    ]

    good, bad = cross_validate(grid, posts_of_two_groups())

    assert good.accuracy == 1.0
    assert good.log_loss < bad.log_loss
    assert good.candidate is grid[0]
    assert bad.log_loss == pytest.approx(np.log(2), abs=0.1)
    assert good.features == bad.features > 10


def test_words_that_only_a_thread_shares_do_not_help_in_cross_validation() -> None:
    # Each thread's one word is in no other thread, so folds that keep threads whole leave nothing
    # to learn; folds that split them would find every post.
    texts = [f"Subject: thread{t}\n\nword{t}" for t in range(20) for _ in range(5)]
    targets = np.repeat(np.arange(20) % 2, 5)
    grid = [Candidate(TfidfVectorizer(), LogisticRegression(C=100))]

    (outcome,) = cross_validate(grid, Posts(texts, targets, ["even", "odd"]))

    assert outcome.accuracy < 0.7


def test_the_smallest_within_one_standard_error_is_chosen() -> None:
    best, smaller, too_far = result(0.950, 40_000), result(0.941, 10_000), result(0.939, 100)

    assert choose([too_far, best, smaller]) is smaller


def test_the_lower_log_loss_is_chosen_among_equals() -> None:
    worse, better = result(0.95, 10, log_loss=0.3), result(0.945, 10, log_loss=0.2)

    assert choose([worse, better]) is better


def test_the_saved_pipeline_predicts_what_the_fitted_one_does(tmp_path: Path) -> None:
    posts = posts_of_two_groups()
    candidate = Candidate(TfidfVectorizer(min_df=2, dtype=np.float32), LogisticRegression(C=100))
    pipeline = fit(candidate, posts)

    file = save(pipeline, posts.target_names, tmp_path)

    assert [path.name for path in (tmp_path / "newsgroups").iterdir()] == ["pipeline.joblib"]
    artifact = joblib.load(tmp_path / file)
    assert artifact["target_names"] == ["computer", "cryptography"]
    np.testing.assert_array_equal(
        artifact["pipeline"].predict_proba(posts.texts), pipeline.predict_proba(posts.texts)
    )
    assert accuracy(artifact["pipeline"], posts) == 1.0


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FIT_AND_SAVE, encoding="utf-8")
    digests = set()
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, str(script), str(tmp_path)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(MODELS_DIR.parent)},
        )
        digests.add(hashlib.sha256((tmp_path / "newsgroups/pipeline.joblib").read_bytes()).digest())

    assert len(digests) == 1


def test_the_artifact_holds_no_training_post(tmp_path: Path) -> None:
    posts = posts_of_two_groups()
    marked = replace(posts, texts=[f"{text} only{i}" for i, text in enumerate(posts.texts)])
    candidate = Candidate(TfidfVectorizer(min_df=2), LogisticRegression(C=100))

    file = save(fit(candidate, marked), marked.target_names, tmp_path)

    assert b"only" not in (tmp_path / file).read_bytes()


def test_posts_that_cannot_be_read_end_the_script_with_advice(tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()

    with pytest.raises(SystemExit, match="--data-home"):
        main(["--data-home", str(not_a_folder), "--models-dir", str(tmp_path)])


def test_the_shipped_artifact_is_the_one_in_the_manifest() -> None:
    manifest = json.loads((MODELS_DIR / "manifest.json").read_text("utf-8"))
    entry = manifest["models"]["newsgroups"]

    digests = {
        path: hashlib.sha256((MODELS_DIR / path).read_bytes()).hexdigest()
        for path in ("newsgroups/pipeline.joblib",)
    }

    assert entry["files"] == digests
    assert entry["quality"]["value"] > entry["quality"]["baseline"] == 0.8315


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("computer cpu memory ram", "comp.sys.mac.hardware"),
        ("The clipper chip gives the agency an escrowed key.", "sci.crypt"),
        ("Christ rose on Easter, and the church sings of the resurrection.", None),
        ("", None),
    ],
)
def test_the_shipped_pipeline_gives_probabilities_of_its_labels(
    text: str, label: str | None
) -> None:
    artifact = joblib.load(MODELS_DIR / "newsgroups" / "pipeline.joblib")

    probabilities = artifact["pipeline"].predict_proba([text])[0]

    assert len(artifact["target_names"]) == len(probabilities) == 4
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-6)
    predicted = artifact["target_names"][int(probabilities.argmax())]
    assert label is None or predicted == label
