"""The console's languages: one catalogue of texts each, and which of them a browser is shown."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request

DEFAULT_LANGUAGE = "en"
LANGUAGES: Mapping[str, str] = {"zh": "中文", "en": "English"}
"""Language to its own name, in the order of the switch."""

COOKIE = "feiqian_language"
TEXTS = Path(__file__).parent / "texts"

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Words:
    """The texts of one language. Called with a key it gives the text, its `{…}` filled from keyword arguments."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self.tag = {"zh": "zh-CN"}.get(language, language)
        self._texts = texts

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text of the catalogue. A key that is missing is a bug, and a KeyError."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def or_else(self, key: str, otherwise: str) -> str:
        """Return a text of the catalogue, or another where it has none, as for what a new module names."""
        return self._texts.get(key, otherwise)

    def field(self, name: str) -> str:
        """Return what a field of a message, event or record is called."""
        return self.or_else(f"field.{name}", name.replace("_", " "))

    def kind(self, tag: str) -> str:
        """Return what a message or event is called."""
        return self.or_else(f"kind.{tag}", tag)

    def role(self, name: str) -> str:
        """Return what a member's or key's role is called."""
        return self.or_else(f"role.{name}", name)

    def rule(self, codespace: str, number: int, name: str) -> str:
        """Return the broken rule in a few words; `name` is the error's class, for one that the catalogue lacks."""
        return self.or_else(f"rule.{codespace}.{number}", _CAPITAL.sub(" ", name).capitalize())


@cache
def words_of(language: str) -> Words:
    """Return the catalogue of a language."""
    return Words(language, read_catalogue(language))


def read_catalogue(language: str) -> dict[str, str]:
    """Return a language's texts by dotted key."""
    return _flatten("", tomllib.loads((TEXTS / f"{language}.toml").read_text("utf-8")))


def choose_language(request: Request[Any, Any, Any]) -> str:
    """Return the language that the reader chose by the switch, else the first that the browser asks for."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return preferred(request.headers.get("accept-language", ""))


def preferred(accepted: str) -> str:
    """Return the language that an Accept-Language header (RFC 9110, 12.5.4) asks for most, English where none."""
    best, best_weight = DEFAULT_LANGUAGE, 0.0
    for part in accepted[:200].split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter)
        if language in LANGUAGES and weight > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    return float(value) if re.fullmatch(r"[01](\.\d{0,3})?", value.strip()) else 0.0


def _flatten(prefix: str, table: Mapping[str, Any]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            texts.update(_flatten(f"{prefix}{key}.", value))
        else:
            texts[f"{prefix}{key}"] = value
    return texts
