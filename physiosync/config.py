"""The base of every configuration: frozen, strict about keys, JSON both ways, with an identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: Fields that change speed or place but not results; left out of `uid`.
    not_identity: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """Everything that changes a result, as plain JSON values."""
        return _identity(self)

    def uid(self) -> str:
        """Ten hexadecimal digits that change whenever `identity` does."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class CommandLine(Config):
    """A configuration that a command line sets: what is wrong is said in the words of its flags.

    Raises
    ------
    ValueError
        With a line for each option that can't be, instead of pydantic's own report.
    """

    if not TYPE_CHECKING:  # Type checkers keep the signature that the fields give.

        def __init__(self, **given: Any) -> None:
            try:
                super().__init__(**given)
            except ValidationError as error:
                raise ValueError("\n".join(map(_wrong, error.errors()))) from None


def _wrong(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    if error["type"] == "extra_forbidden":
        return f"expected options that there are, found {error['loc'][0]!r}"
    flag = "--" + str(error["loc"][0]).replace("_", "-")
    expected = message.removeprefix("Input should be ").replace("String should match", "a match of")
    return f"{flag}: expected {expected}, found {error['input']!r}"


def _identity(config: Config) -> dict[str, Any]:
    plain = config.model_dump(mode="json", exclude=set(config.not_identity))
    for name in plain:
        value = getattr(config, name)
        if isinstance(value, Config):
            plain[name] = _identity(value)
    return plain
