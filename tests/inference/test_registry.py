"""Artifacts and their manifest: what is code does not load unless its digest is known."""

import json
import warnings
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from app.inference.base import ModelLoadError
from app.inference.joblib_pipeline import JoblibTextClassifier
from app.inference.registry import ModelRegistry
from tests.support.manifests import write_manifest

TEXTS = ["disk memory cpu", "cpu disk", "prayer church faith", "church prayer", "key cipher"]
TOPICS = [0, 0, 1, 1, 2]
NAMES = ["hardware", "religion", "crypto"]


def fitted() -> Pipeline:
    pipeline: Pipeline = make_pipeline(TfidfVectorizer(), MultinomialNB())
    return pipeline.fit(TEXTS, TOPICS)


def write_artifact(models_dir: Path, content: Any, **manifest: Any) -> Path:
    """An artifact named `small` with its manifest."""
    path = models_dir / "small" / "pipeline.joblib"
    path.parent.mkdir(exist_ok=True)
    joblib.dump(content, path)
    write_manifest(models_dir, "small", **{"labels": NAMES, **manifest})
    return path


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    write_artifact(tmp_path, {"pipeline": fitted(), "target_names": NAMES})
    return tmp_path


class Mischief:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def load(models_dir: Path, name: str = "small") -> JoblibTextClassifier:
    classifier = JoblibTextClassifier(ModelRegistry(models_dir), name)
    classifier.load()
    return classifier


class TestManifest:
    def test_what_it_tells(self, models_dir: Path) -> None:
        registry = ModelRegistry(models_dir)
        assert registry.names == ["small"]
        info = registry.info("small", device="cpu")
        assert (info.name, info.task, info.license) == ("small", "text-classification", "MIT")
        assert len(info.version) == 12

    def test_the_version_of_one_file_is_its_digest(self, models_dir: Path) -> None:
        registry = ModelRegistry(models_dir)
        (digest,) = registry.entry("small").files.values()
        assert digest.startswith(registry.version("small"))

    def test_the_version_of_many_files_changes_with_each(self, models_dir: Path) -> None:
        versions = set()
        for content in ("a", "b"):
            (models_dir / "small" / "other.json").write_text(content)
            write_manifest(models_dir, "small")
            versions.add(ModelRegistry(models_dir).version("small"))
        assert len(versions) == 2

    def test_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match=r"manifest\.json cannot be read"):
            ModelRegistry(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[]",
            '{"models": {}}',
            '{"schema_version": 2, "models": {}}',
            '{"schema_version": 1, "models": {"x": {"task": "text-classification"}}}',
        ],
    )
    def test_one_that_cannot_be_understood(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ModelLoadError, match="not a valid manifest"):
            ModelRegistry(tmp_path)

    @pytest.mark.parametrize("changes", [{"files": {}}, {"format": "pickle"}, {"task": "poetry"}])
    def test_an_entry_that_makes_no_sense(self, changes: dict[str, Any], models_dir: Path) -> None:
        write_manifest(models_dir, "small", **changes)
        with pytest.raises(ModelLoadError, match="not a valid manifest"):
            ModelRegistry(models_dir)

    def test_a_name_that_is_not_in_it(self, models_dir: Path) -> None:
        with pytest.raises(ModelLoadError, match=r"'large' is not in .*there: small"):
            load(models_dir, "large")

    def test_a_file_that_is_not_there(self, models_dir: Path) -> None:
        (models_dir / "small" / "pipeline.joblib").unlink()
        with pytest.raises(ModelLoadError, match=r"pipeline\.joblib cannot be read"):
            load(models_dir)


class TestJoblib:
    def test_it_answers_as_the_pipeline_does(self, models_dir: Path) -> None:
        classifier = load(models_dir)
        texts = ["cpu memory", "a prayer", "", "unheard of"]
        expected = fitted().predict_proba(texts)
        for text, answer, row in zip(texts, classifier.predict(texts), expected, strict=True):
            (alone,) = classifier.predict([text])
            assert alone.probabilities == pytest.approx(dict(answer.probabilities))
            assert answer.category == NAMES[row.argmax()]
            assert answer.probabilities == pytest.approx(dict(zip(NAMES, row, strict=True)))
            ranked = list(answer.probabilities.values())
            assert ranked == sorted(ranked, reverse=True)

    def test_labels_are_in_the_order_of_the_classes(self, tmp_path: Path) -> None:
        pipeline = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(TEXTS, [2, 2, 0, 0, 1])
        write_artifact(tmp_path, {"pipeline": pipeline, "target_names": NAMES})
        (answer,) = load(tmp_path).predict(["disk cpu"])
        assert answer.category == "crypto"

    def test_code_whose_digest_is_not_known_does_not_run(
        self, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        mark = tmp_path_factory.mktemp("mark") / "it-ran"
        joblib.dump(Mischief(mark), models_dir / "small" / "pipeline.joblib")
        with pytest.raises(ModelLoadError, match="is not the file of the manifest"):
            load(models_dir)
        assert not mark.exists()
        # The same code runs where the manifest knows it: so it was the digest that stopped it.
        write_manifest(models_dir, "small")
        with pytest.raises(ModelLoadError):
            load(models_dir)
        assert mark.exists()

    def test_one_byte_is_enough(self, models_dir: Path) -> None:
        path = models_dir / "small" / "pipeline.joblib"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ModelLoadError, match="It was not loaded"):
            load(models_dir)

    @pytest.mark.parametrize(
        "content", [{}, {"pipeline": None, "target_names": []}, "text", {"pipeline": 1}]
    )
    def test_another_kind_of_content(self, content: Any, tmp_path: Path) -> None:
        write_artifact(tmp_path, content)
        with pytest.raises(ModelLoadError, match="small"):
            load(tmp_path)

    def test_a_known_file_that_is_no_joblib_file(self, models_dir: Path) -> None:
        (models_dir / "small" / "pipeline.joblib").write_bytes(b"PK\x03\x04 not a pickle")
        write_manifest(models_dir, "small")
        with pytest.raises(ModelLoadError, match="small"):
            load(models_dir)

    def test_another_format(self, models_dir: Path) -> None:
        write_manifest(models_dir, "small", format="safetensors")
        with pytest.raises(ModelLoadError, match="safetensors artifact, not a joblib file"):
            load(models_dir)

    def test_more_than_one_file(self, models_dir: Path) -> None:
        (models_dir / "small" / "notes.txt").write_text("notes")
        write_manifest(models_dir, "small")
        with pytest.raises(ModelLoadError, match="has one file"):
            load(models_dir)

    def test_one_made_with_another_version_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sklearn.base.__version__", "1.0")
        write_artifact(tmp_path, {"pipeline": fitted(), "target_names": NAMES})
        monkeypatch.undo()
        info = JoblibTextClassifier(ModelRegistry(tmp_path), "small").load()
        assert info.notice is not None
        assert "scikit-learn 1.0" in info.notice

    def test_one_made_with_this_version_says_nothing(self, models_dir: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert JoblibTextClassifier(ModelRegistry(models_dir), "small").load().notice is None


def test_the_shipped_manifest_is_true() -> None:
    models_dir = Path(__file__).parents[2] / "models"
    registry = ModelRegistry(models_dir)
    assert "newsgroups" in registry.names
    for name in registry.names:
        registry.read_verified(name)
    content = json.loads((models_dir / "manifest.json").read_text())
    assert content["schema_version"] == 1
