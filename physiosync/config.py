"""The base of every configuration: frozen, strict about keys, JSON both ways, with an identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


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


def _identity(config: Config) -> dict[str, Any]:
    plain = config.model_dump(mode="json", exclude=set(config.not_identity))
    for name in plain:
        value = getattr(config, name)
        if isinstance(value, Config):
            plain[name] = _identity(value)
    return plain
