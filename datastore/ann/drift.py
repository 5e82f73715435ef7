"""How far what was added to a datastore has drifted from what its index was trained on: kept in the manifest."""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_RESIDUAL = 1e-3
"""Vectors that all but are their centroids fit well, whatever the ratio."""
RETRAIN_RATIO = 1.15
RETRAIN_GROWTH = 4.0
_LEAST_ADDED = 0.05
"""Share of what was trained on, below which what was added is too little to matter."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Mean residuals (`datastore.keeping.drift`) of what the index was trained on, and of what was added since."""

    trained_residual: float
    trained_passages: int
    """In the datastore before the first addition since the training."""
    added_residual: float
    added_passages: int

    @property
    def ratio(self) -> float:
        """1 where new text fits the lists as the old does; more where it fits worse."""
        if not self.added_passages:
            return 1.0
        return max(self.added_residual, _LEAST_RESIDUAL) / max(self.trained_residual, _LEAST_RESIDUAL)

    @property
    def retrain(self) -> str:
        """Why `compact --retrain` is due; empty where it is not."""
        if self.added_passages >= (RETRAIN_GROWTH - 1) * max(self.trained_passages, 1):
            return f"the index was trained over {self.trained_passages} passages, and {self.added_passages} came since"
        if self.ratio >= RETRAIN_RATIO and self.added_passages >= _LEAST_ADDED * self.trained_passages:
            return f"what was added lies {self.ratio:.2f} times as far from its lists as what the index was trained on"
        return ""

    def plus(self, residual: float, passages: int) -> Drift:
        """With so many passages more, of this mean residual."""
        total = self.added_passages + passages
        mean = (self.added_residual * self.added_passages + residual * passages) / total if total else 0.0
        return Drift(self.trained_residual, self.trained_passages, round(mean, 6), total)
