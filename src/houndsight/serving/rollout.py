"""Changing an endpoint while it answers: other models, other shares, other numbers of instances, and the way back.

A new model starts beside the old one, warm and checked before a request goes to it. Traffic moves by the table of
variants that every instance has (`routes`), so a step forward or back is one line to each and no connection is cut.
The old instances finish what they have and go only when the new ones have stood the watch.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field

from houndsight.errors import HoundsightError, JobError, SpecError
from houndsight.serving import check, revision
from houndsight.serving.control import Tell
from houndsight.serving.endpoint import EndpointSpec, Variant
from houndsight.serving.group import Group
from houndsight.serving.settings import InstanceSettings
from houndsight.spec import Frozen

if TYPE_CHECKING:
    from houndsight.serving.supervisor import Supervisor

log = logging.getLogger("houndsight")

WATCH_SECONDS = 0.25
MOST_ERRORS = 0.01
"""Share of 5xx answers above which a new model is taken back."""


class Change(Frozen):
    """What is to become of an endpoint."""

    model: str | None = None
    """Path of a new model, or None."""
    staged: str = ""
    """Folder of the new model where a script answers for it; see `endpoint.Variant`."""
    revision: str = ""
    """Folder of the new model."""
    variants: dict[str, float] | None = None
    """The shares of all variants from now on; those not named go, the one not known yet is `model`."""
    canary: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Share of the requests that the new model gets at first."""
    instances: int | None = Field(default=None, ge=1)
    """Instances of every variant."""
    bake: float = Field(default=10.0, ge=0.0, le=86400.0)
    """Seconds for which the new model is watched, after the canary and again after the whole step."""


async def update(of: "Supervisor", change: Change, tell: Tell) -> dict[str, Any]:
    """Carry out a change; raises why it was refused or taken back, and the endpoint is then as it was."""
    of.phase("Updating")
    try:
        if change.model is None:
            await _settle(of, change, None, tell)
        elif change.variants is None:
            await _replace(of, change, tell)
        else:
            await _settle(of, change, _newcomer(of.spec, change), tell)
        of.last = ""
    except HoundsightError as error:
        of.last = f"The last update was taken back: {error.message}"
        log.warning("%s", of.last)
        raise
    finally:
        of.phase(None)
    return of.describe()


# --------------------------------------------------------------------------------- one model for another


async def _replace(of: "Supervisor", change: Change, tell: Tell) -> None:
    """Blue and green: the model of the one variant is replaced."""
    if len(of.groups) != 1:
        names = ",".join(f"{group.variant.name}=..." for group in of.groups)
        raise SpecError(
            "The endpoint has several variants, and a model was given without saying what becomes of them.",
            f"Add --variants {names},NEW=... for a further one, or leave one variant first.",
        )
    blue = of.groups[0]
    assert change.model is not None
    count = change.instances or blue.variant.instances
    variant = blue.variant.model_copy(
        update={
            "model": change.model,
            "revision": change.revision,
            "staged": change.staged,
            "instances": count,
            "weight": 1.0,
        }
    )
    green = await _add(of, variant, tell)
    try:
        if change.canary is not None:
            _share(of, {blue.key: 1 - change.canary, green.key: change.canary})
            tell(f"{change.canary:.0%} of the requests go to the new model.")
            await watch(green, change.bake, tell)
        _share(of, {blue.key: 0.0, green.key: 1.0})
        tell("All requests go to the new model.")
        await watch(green, change.bake, tell)
        of.keep(of.spec.model_copy(update={"variants": (variant,)}))
    except BaseException:
        await _back(of, {blue.key: 1.0, green.key: 0.0}, green)
        raise
    tell("The old instances finish what they have.")
    await of.remove(blue)


async def _add(of: "Supervisor", variant: Variant, tell: Tell) -> Group:
    """Start a model beside the others, warm and checked, without a request for it yet."""
    tell(f"Preparing {variant.model}.")
    group = await of.add(variant, weight=0.0)
    try:
        settings = InstanceSettings.read(revision.settings_file(of.folder, group.key))
        await check.all_answer(of.folder, settings, [slot.number for slot in group.slots])
        if group.problem:
            raise JobError(f"The new model was taken back. {group.problem}", _LOOK)
    except BaseException:
        await of.remove(group)
        raise
    tell(f"{len(group.slots)} new instances are warm and answer.")
    return group


async def watch(group: Group, seconds: float, tell: Tell) -> None:
    """Watch the new instances for that long; raises `JobError` when one is lost or they answer with errors."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    requests_before, errors_before, lost_before = group.tallies()
    while True:
        requests, errors, lost = group.tallies()
        requests, errors, lost = requests - requests_before, errors - errors_before, lost - lost_before
        if lost:
            reasons = [slot.reason for slot in group.slots if slot.reason]
            raise JobError(f"The new model was taken back: an instance was lost ({'; '.join(reasons)}).", _LOOK)
        if errors > MOST_ERRORS * requests:
            raise JobError(
                f"The new model was taken back: it answered {errors} of {requests} requests with 5xx.", _LOOK
            )
        if loop.time() >= until:
            break
        await asyncio.sleep(min(WATCH_SECONDS, max(0.0, until - loop.time())))
    tell(f"Watched for {seconds:.0f} s: {requests} requests, {errors} errors.")


_LOOK = "`houndsight logs ENDPOINT` says more."


def _share(of: "Supervisor", weights: dict[str, float]) -> None:
    for group in of.groups:
        group.weight = weights.get(group.key, group.weight)
    of.changed()


async def _back(of: "Supervisor", weights: dict[str, float], green: Group) -> None:
    of.phase("RollingBack")
    _share(of, weights)
    await asyncio.sleep(0)  # the table goes out before the instances that it no longer names are asked to finish
    await of.remove(green)


# -------------------------------------------------------------------------------------- several models


def _newcomer(spec: EndpointSpec, change: Change) -> Variant:
    assert change.model is not None
    assert change.variants is not None
    new = [name for name in change.variants if spec.variant(name) is None]
    if len(new) != 1:
        known = ", ".join(each.name for each in spec.variants)
        raise SpecError(
            f"With a model --variants names exactly one variant that is new (there are: {known}); "
            f"{len(new)} of the names are.",
            "Give the new model a name of its own.",
        )
    count = change.instances or spec.variants[0].instances
    return Variant.create(
        name=new[0],
        model=change.model,
        revision=change.revision,
        staged=change.staged,
        weight=change.variants[new[0]],
        instances=count,
    )


async def _settle(of: "Supervisor", change: Change, new: Variant | None, tell: Tell) -> None:
    """Set the shares and numbers of instances that were asked for; a new variant comes, unnamed ones go."""
    shares = change.variants or {each.name: each.weight for each in of.spec.variants}
    wanted = []
    for each in of.spec.variants:
        if each.name in shares:
            count = change.instances if change.instances and new is None else each.instances
            wanted.append(each.model_copy(update={"weight": shares[each.name], "instances": count}))
    unknown = [name for name in shares if of.spec.variant(name) is None and (new is None or name != new.name)]
    if unknown:
        raise SpecError(
            f"There is no variant {', '.join(map(repr, unknown))}.",
            "A new one needs its model: houndsight update ENDPOINT MODEL --variants ...",
        )
    spec = EndpointSpec.create(**{**dict(of.spec), "variants": (*wanted, *([new] if new else []))})
    before = {group.key: group.weight for group in of.groups}
    green = await _add(of, new, tell) if new else None
    try:
        for group in of.groups:
            found = spec.variant(group.variant.name)
            if found is not None and group is not green and len(group.slots) < found.instances:
                await group.grow(found.instances)
        _share(of, {group.key: _weight(spec, group) for group in of.groups})
        if green is not None:
            await watch(green, change.bake, tell)
        of.keep(spec)
    except BaseException:
        if green is not None:
            await _back(of, before, green)
        for group in of.groups:
            await group.shrink(group.variant.instances, of.grace)
        raise
    await _let_go(of, spec)
    tell(", ".join(f"{each.name}: weight {each.weight:g}, {each.instances} instances" for each in spec.variants) + ".")


def _weight(spec: EndpointSpec, group: Group) -> float:
    found = spec.variant(group.variant.name)
    return found.weight if found else 0.0


async def _let_go(of: "Supervisor", spec: EndpointSpec) -> None:
    """Instances that are no longer wanted finish what they have and go."""
    for group in list(of.groups):
        found = spec.variant(group.variant.name)
        if found is None:
            await of.remove(group)
        else:
            group.variant = found
            await group.shrink(found.instances, of.grace)
