"""The origin of a model: versions, platform, time."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from ..errors import ArtifactError, unknown


@dataclass(frozen=True)
class Origin:
    """The origin of a model, recorded when it is first written and repeated in later copies.

    unnoise, python, torch: versions; platform: system and processor; written: time in UTC. None
    for values that an older format did not record.
    """

    unnoise: str | None = None
    python: str | None = None
    torch: str | None = None
    platform: str | None = None
    written: str | None = None

    @classmethod
    def here(cls) -> Origin:
        """Return the origin of a model that is written now by this program."""
        import torch

        from .. import __version__

        return cls(
            __version__,
            platform.python_version(),
            str(torch.__version__),
            f"{platform.system()} {platform.machine()}".strip(),
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Any, where: str) -> Origin:
        """Read `to_dict` back; raises ArtifactError for other keys and values that are no short
        text."""
        known = [field.name for field in fields(cls)]
        if not isinstance(tree, dict):
            raise ArtifactError(f"{where}: provenance is no object of keys")
        for key in tree:
            if key not in known:
                raise unknown(f"key of provenance in {where}", key, known, ArtifactError)
        if missing := [key for key in known if key not in tree]:
            raise ArtifactError(f"{where}: provenance lacks {', '.join(missing)}")
        for key, value in tree.items():
            if value is not None and not (isinstance(value, str) and 0 < len(value) <= 200):
                raise ArtifactError(
                    f"{where}: {key} of provenance is {value!r:.80}; it must be a text or null"
                )
        return cls(**tree)

    def __str__(self) -> str:
        made = [
            f"{name} {value}"
            for name in ("unnoise", "torch", "python")
            if (value := getattr(self, name)) is not None
        ]
        return ", ".join([*made, *filter(None, (self.platform, self.written))]) or "not recorded"
