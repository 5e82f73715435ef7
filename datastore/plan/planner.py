"""The plan of a datastore that does not exist yet: what it needs, on machines of which shape, and what that costs."""

from __future__ import annotations

from datastore.plan.calibration import calibration
from datastore.plan.constants import Constants
from datastore.plan.machines import machines
from datastore.plan.remarks import of_all, of_shape
from datastore.plan.request import PlanRequest, encoder_parameters, size_of
from datastore.plan.results import Plan
from datastore.plan.shape import Shape


def make_plan(request: PlanRequest, constants: Constants | None = None) -> Plan:
    """By arithmetic from `constants` and the calibration: nothing is opened, built or measured.

    Raises:
        InvalidArgument: no index fits the parameters, or no number of such machines holds it.
    """
    constants = constants or Constants()
    calibrated = calibration()
    size = size_of(request, constants)
    shapes = [Shape(request, size, machine, constants, calibrated).plan() for machine in machines(constants)]
    return Plan(
        request=request,
        size=size,
        encoder_parameters=encoder_parameters(request),
        shapes=tuple(of_shape(planned) for planned in shapes),
        warnings=of_all(request, size, shapes, calibrated),
        assumptions=tuple(constants.used()),
        measured_on=calibrated.machine,
    )
