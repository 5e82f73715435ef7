"""What makes two encoders the same: a store keeps it, and a query encoded otherwise is refused by it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from datastore.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class EncoderFingerprint:
    """Everything that decides which vector a text gets."""

    name: str
    """As given to `--encoder`: a registered name, a hub name or a path."""
    revision: str
    """Of the model: hub commit, package version, or a hash of a local folder's files."""
    dimension: int
    pooling: str
    normalized: bool
    query_prompt: str
    passage_prompt: str
    max_tokens: int
    """Texts are cut off after so many tokens; 0 means never."""

    def require_same(self, other: EncoderFingerprint, what: str) -> None:
        """Raise FailedPrecondition, naming each field that differs, unless `other` (called `what`) equals this one."""
        differing = [
            f.name for f in fields(self) if f.name != "name" and getattr(self, f.name) != getattr(other, f.name)
        ]
        if differing:
            seen = ", ".join(f"{name} {getattr(other, name)!r}" for name in differing)
            wanted = ", ".join(f"{name} {getattr(self, name)!r}" for name in differing)
            raise FailedPrecondition(
                f"{what} is {other.name!r} with {seen}; the store was built with {self.name!r}: {wanted}",
                mend=f"use the encoder {self.name!r} at revision {self.revision!r}, or build a new store",
            )
