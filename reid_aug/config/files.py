"""Configurations from and to YAML, with dotted overrides and errors that name the field."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from reid_aug.config.base import Config
from reid_aug.errors import ConfigError
from reid_aug.files import write_text

AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(kind: type[AnyConfig], path: str | Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read ``path`` (YAML) as ``kind``, with ``overrides`` such as ``training.iterations=800`` applied on top.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong type or a value out of range.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a YAML file, e.g. from configs/.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text. Name a YAML file, e.g. from configs/.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}. Correct the line it names.") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, expected `key: value` lines.")
    return build_config(kind, values, overrides, where=str(path))


def build_config(kind: type[AnyConfig], values: dict[str, Any], overrides: Iterable[str] = (), where: str = "config"):
    """Validate ``values`` as ``kind``; ``where`` names them in the error."""
    for override in overrides:
        values = _override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, kind)}") from None


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration (every value, defaults too) as YAML, whole or not at all."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=120)
    write_text(Path(path), text)


def _override(values: dict[str, Any], override: str) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r}: expected key.sub_key=value, e.g. training.iterations=800.")
    head, *rest = keys
    if not rest:
        try:
            return {**values, head: yaml.safe_load(text)}
        except yaml.YAMLError:
            raise ConfigError(f"override {override!r}: {text!r} is not a YAML value. Quote or correct it.") from None
    inner = values.get(head) or {}
    if not isinstance(inner, dict):
        raise ConfigError(f"override {override!r}: {head} is a value, not a section.")
    return {**values, head: _override(inner, f"{'.'.join(rest)}={text}")}


def _explain(error: ValidationError, kind: type[Config]) -> str:
    """One line a problem: the dotted field, what is wrong, and what would be accepted."""
    lines = []
    for problem in error.errors():
        keys, _ = _walk(kind, problem["loc"])
        field = ".".join(keys)
        if problem["type"] == "extra_forbidden":
            _, sections = _walk(kind, problem["loc"][:-1])
            known = ", ".join(name for section in sections for name in section.model_fields)
            lines.append(f"unknown key `{field}`. Remove it or use one of: {known}.")
        else:
            # What is wrong with a section as a whole names its values itself.
            got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
            lines.append(f"`{field}`: {problem['msg']}{got}.")
    return "\n".join(lines)


def _walk(kind: type[Config], location: tuple[Any, ...]) -> tuple[list[str], list[type[Config]]]:
    """The keys of a pydantic location, without the tags of unions, and the classes that its last section may have."""
    keys, sections = [], [kind]
    for part in location:
        tagged = [section for section in sections if _tag(section) == part]
        if tagged and len(sections) > 1:
            sections = tagged
            continue
        keys.append(str(part))
        holder = next((section for section in sections if part in section.model_fields), None)
        if holder is not None:
            annotation = holder.model_fields[part].annotation
            sections = [option for option in (annotation, *get_args(annotation)) if hasattr(option, "model_fields")]
    return keys, sections


def _tag(section: type[Config]) -> str | None:
    field = section.model_fields.get("system")
    return None if field is None else field.default
