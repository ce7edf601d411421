"""scikit-learn pipelines from joblib files."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from app.inference.base import InferenceModel, ModelInfo, ModelLoadError
from app.inference.compiled_text import CompiledTextPipeline
from app.inference.registry import ModelRegistry


@dataclass(frozen=True, slots=True)
class Classification:
    """What a text was taken for."""

    category: str
    """The most probable label."""
    probabilities: Mapping[str, float]
    """All labels, most probable first; they add up to 1."""


class JoblibTextClassifier(InferenceModel[str, str, Classification]):
    """A text-classification pipeline: any scikit-learn estimator with `predict_proba`.

    The artifact is a joblib dump of `{"pipeline": estimator, "target_names": [label, …]}`. It is
    a pickle, and so code: it loads only when its SHA-256 stands in the manifest.
    """

    preprocess_computes = False

    def __init__(self, registry: ModelRegistry, name: str) -> None:
        self.name = name
        self._registry = registry
        self._pipeline: Any = None
        self._compiled: CompiledTextPipeline | None = None
        self._labels: tuple[str, ...] = ()

    def load(self) -> ModelInfo:
        import joblib
        import sklearn
        from sklearn.exceptions import InconsistentVersionWarning

        entry = self._registry.entry(self.name)
        if entry.format != "joblib":
            raise ModelLoadError(f"{self.name!r} is a {entry.format} artifact, not a joblib file")
        contents = self._registry.read_verified(self.name)
        if len(contents) != 1:
            raise ModelLoadError(f"{self.name!r}: a joblib artifact has one file")
        (content,) = contents.values()
        notice = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InconsistentVersionWarning)
            try:
                artifact = joblib.load(io.BytesIO(content))
            # Unpickling raises whatever the classes in the file raise.
            except Exception as error:
                raise ModelLoadError(f"{self.name!r} cannot be unpickled: {error!r}") from error
        if any(issubclass(warning.category, InconsistentVersionWarning) for warning in caught):
            made_with = entry.libraries.get("scikit-learn", "another version")
            notice = (
                f"Made with scikit-learn {made_with}, running on {sklearn.__version__}: "
                "answers may differ from the measured quality."
            )
        try:
            self._pipeline = artifact["pipeline"]
            # predict_proba's columns are the classes the estimator saw, which index the names.
            self._labels = tuple(artifact["target_names"][i] for i in self._pipeline.classes_)
        except (LookupError, TypeError, AttributeError) as error:
            raise ModelLoadError(
                f"{self.name!r} does not hold a fitted `pipeline` and its `target_names`: {error!r}"
            ) from error
        # Thread-local in scikit-learn, and this thread is the model's own: inputs are strings
        # checked at the door, so its validation of parameters and of finiteness is cost alone.
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        self._compiled = CompiledTextPipeline.compile(self._pipeline)
        if self._compiled is None:
            logger.info("{}: not of a kind that is compiled; scikit-learn serves it", self.name)
        return self._registry.info(
            self.name,
            labels=self._labels,
            notice=notice,
            input_schema={"type": "string", "description": "A text in the training language."},
        )

    def warm_up(self) -> None:
        self.predict(["warm-up"])
        self.predict(["the first batch", "and its second row"])

    def preprocess(self, item: str) -> str:
        return item

    def predict(self, batch: Sequence[str]) -> list[Classification]:
        if self._compiled is not None:
            rows = self._compiled.predict_proba(batch)
        else:
            rows = self._pipeline.predict_proba(batch).tolist()
        return [self._classification(row) for row in rows]

    def _classification(self, row: list[float]) -> Classification:
        ranked = sorted(zip(row, self._labels, strict=True), key=lambda pair: -pair[0])
        return Classification(
            category=ranked[0][1], probabilities={label: value for value, label in ranked}
        )
