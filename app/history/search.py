"""Finding words in a history: literal, without regard to case, on both databases."""

from typing import Any

from sqlalchemy import Boolean, ColumnElement, and_, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.functions import FunctionElement

from app.history.models import Feedback, Prediction, Stream

MAX_SEARCH_LENGTH = 200

_Column = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


def matches(table: type[Prediction] | type[Stream], words: str) -> ColumnElement[bool]:
    """Whether `words` stand, as they are, in what a person knows a record of `table` by.

    Of predictions the text, the file's name, the labels and the feedback; of streams the labels.
    """
    if table is Stream:
        return _contains(Stream.labels, words)
    corrected = Prediction.feedback.has(
        or_(_contains(Feedback.label, words), _contains(Feedback.comment, words))
    )
    columns: tuple[_Column, ...] = (
        Prediction.input_text,
        Prediction.input_name,
        Prediction.labels,
    )
    return or_(*(_contains(column, words) for column in columns), corrected)


def _contains(column: _Column, words: str) -> ColumnElement[bool]:
    plain = column.ilike(f"%{_escape(words)}%", escape="/")
    return plain if words.isascii() else _OnSQLite(_contains_unicode(column, words), plain)


def _contains_unicode(column: _Column, words: str) -> ColumnElement[bool]:
    """SQLite's LIKE takes `Ü` and `ü` for two letters; its GLOB has sets of letters.

    GLOB takes seven times as long, so LIKE passes over most rows before, with any letter in the
    place of those that it does not know.
    """
    coarse = "".join(_escape(letter) if letter.isascii() else "_" for letter in words)
    exact = "".join(_letter_set(letter) for letter in words)
    return and_(
        column.like(f"%{coarse}%", escape="/"), column.op("GLOB", is_comparison=True)(f"*{exact}*")
    )


def _escape(words: str) -> str:
    return words.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _letter_set(letter: str) -> str:
    # A few letters have an upper case of two, as `ß`; those stand for themselves.
    cases = {case for case in (letter, letter.lower(), letter.upper()) if len(case) == 1}
    # In a set GLOB's own signs are what they are.
    return f"[{''.join(sorted(cases))}]" if len(cases) > 1 or letter in "*?[" else letter


class _OnSQLite(FunctionElement[bool]):
    """The first of two conditions on SQLite, the second on every other database."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, sqlite: ColumnElement[bool], other: ColumnElement[bool]) -> None:
        super().__init__(sqlite, other)


@compiles(_OnSQLite)
def _render_other(element: _OnSQLite, compiler: Any, **options: Any) -> str:
    _, other = element.clauses
    return f"({compiler.process(other, **options)})"


@compiles(_OnSQLite, "sqlite")
def _render_sqlite(element: _OnSQLite, compiler: Any, **options: Any) -> str:
    sqlite, _ = element.clauses
    return f"({compiler.process(sqlite, **options)})"
