"""`houndsight profile`: what limits the speed of a job or of a training on some data, and what a change really wins."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.check import Watch
from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import Bar
from houndsight.cli.output import document, note, percent, say, table
from houndsight.cli.settings import Settings, as_settings
from houndsight.errors import SpecError
from houndsight.results import Verdict
from houndsight.verbs import profile as verbs
from houndsight.workspace import Workspace


def profile(
    target: Annotated[str, Parameter(help="Name of a job, or data as `houndsight train` takes it.")],
    /,
    *,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    prove: Annotated[
        bool, Parameter(help="Try the change that the verdict names, in turns with the present settings.")
    ] = False,
    seconds: Annotated[float, Parameter(metavar="NUMBER", help="How long to try it.")] = 20.0,
    trace: Annotated[
        Path | None, Parameter(metavar="FILE", help="Write a Chrome trace that opens in ui.perfetto.dev.")
    ] = None,
    price_per_hour: Annotated[
        float | None, Parameter(metavar="NUMBER", help="What the machine costs, to say what the job did.")
    ] = None,
    instance_type: Annotated[
        str | None, Parameter(metavar="NAME", help="What the machine is rented as, such as ml.g4dn.xlarge.")
    ] = None,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Say what limits the speed of a training: data, copies, arithmetic, Python, memory, or nothing at all.

    For a job, also one that runs, its records tell. Data is trained on for some seconds with the settings given.
    """
    if target in Workspace.find(workspace).names():
        if settings or prove:
            raise SpecError(
                "A job's settings are what they were.",
                f"Type `houndsight profile {target}` alone, or give its data instead to try a change.",
            )
        found = verbs.profile_job(
            target, workspace=workspace, price_per_hour=price_per_hour, instance_type=instance_type, trace=trace
        )
    else:
        with Bar(sys.stderr) as bar:
            found = verbs.profile_data(
                target,
                prove=prove,
                seconds=seconds,
                workspace=workspace,
                trace=trace,
                progress=Watch(bar),
                **as_settings(settings),
            )
    if json:
        document(found.as_json())
    else:
        _page(found, prove)
    if trace is not None:
        note(f"{trace}: open it in ui.perfetto.dev.")
    return 0


def _page(found: verbs.Profiled, prove: bool) -> None:
    verdict = found.verdict
    if verdict is None:
        say("The loop was too short to judge what limits it.")
    else:
        _verdict(verdict)
        for each in verdict.alternatives:
            say(f"Also: {each.message} Without it {each.gain:.1f}x. {each.change}".rstrip())
    say()
    phases = sorted(found.document["phases"], key=lambda each: -each["seconds"])
    rows = [[each["name"], f"{each['seconds']:.2f} s", percent(each["share"])] for each in phases]
    table(rows, ["phase", "time", "share"])
    energy = found.document["energy"]
    if energy and energy["cost"] is not None:
        say(f"Cost: {energy['cost']:.4f} at {energy['price_per_hour']} an hour.")
    for proof in found.proofs:
        say(_proof(proof))
    if prove and not found.proofs:
        say("There is no change of a setting to try.")


def _verdict(verdict: Verdict) -> None:
    say(f"Limit: {verdict.bound}. {verdict.message}")
    if verdict.gain > 1.0:
        say(f"  Without it: {verdict.gain:.1f} times as fast ({verdict.assumption})")
    if verdict.change:
        say(f"  Change: {verdict.change}")


def _proof(proof: Any) -> str:
    change = ", ".join(f"{name} {proof.before[name]} -> {value}" for name, value in proof.change.items())
    estimated = f", estimated {proof.expected:.2f}x" if proof.expected else ""
    before, after = proof.images_per_second
    return (
        f"Tried for {proof.seconds:.0f} s: {change}: {proof.won:.2f}x (95 % interval {proof.low:.2f} to "
        f"{proof.high:.2f}{estimated}); {before:.1f} -> {after:.1f} images a second."
    )
