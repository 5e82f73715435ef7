"""Index kind -> its template."""

from __future__ import annotations

from datastore.ann.kinds.flat import FlatTemplate
from datastore.ann.kinds.ivf_pq import IvfPqTemplate
from datastore.ann.kinds.ivf_pq4 import IvfPq4Template
from datastore.ann.kinds.ivf_rabitq import IvfRabitqTemplate

TEMPLATES: dict[str, type[FlatTemplate] | type[IvfPqTemplate] | type[IvfPq4Template] | type[IvfRabitqTemplate]] = {
    "flat": FlatTemplate,
    "ivf-pq": IvfPqTemplate,
    "ivf-pq4": IvfPq4Template,
    "ivf-rabitq": IvfRabitqTemplate,
}
