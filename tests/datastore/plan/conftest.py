"""Plans, made short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from datastore.config import load_config
from datastore.plan.constants import Constants
from datastore.plan.planner import make_plan
from datastore.plan.request import PlanRequest
from datastore.plan.results import Plan, ShapePlan

PlanFor = Callable[..., Plan]


@pytest.fixture(scope="session")
def plan_for() -> PlanFor:
    """`plan_for(passages=…, index={…}, given={constant: value})`."""

    def make(index: dict[str, Any] | None = None, given: dict[str, float] | None = None, **request: Any) -> Plan:
        settings = load_config(None, {"index": index or {}})
        return make_plan(PlanRequest(**request, index=settings.index), Constants(given))

    return make


@pytest.fixture(scope="session")
def on_cpu(plan_for: PlanFor) -> Callable[..., ShapePlan]:
    return lambda **settings: plan_for(**settings).shapes[0]


@pytest.fixture(scope="session")
def on_gpu(plan_for: PlanFor) -> Callable[..., ShapePlan]:
    return lambda **settings: plan_for(**settings).shapes[1]
