"""`houndsight deploy`, `update`, `invoke`, `endpoints`, `describe` and `delete-endpoint`; none of these needs torch."""

import json as encoder
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place, S3Endpoint, TrustPickle
from houndsight.cli.output import document, megabytes, note, percent, say, table
from houndsight.errors import SpecError
from houndsight.verbs import endpoints as verbs
from houndsight.verbs.endpoints import Deployment
from houndsight.verbs.handlers import Script

Name = Annotated[str, Parameter(help="Name of the endpoint.")]
Model = Annotated[str, Parameter(help="A job, a folder or a model.tar.gz.")]
EntryPoint = Annotated[
    str | None, Parameter(metavar="FILE", help="SageMaker script (inference.py) that answers for the model.")
]
SourceDir = Annotated[
    Path | None, Parameter(metavar="DIR", help="Folder of the script and of what it imports; else it comes alone.")
]
Trust = Annotated[bool, Parameter(help="Run the code that a model.tar.gz of others brings in its code/.")]
Requirements = Annotated[bool, Parameter(help="Install what the script's requirements.txt asks for and is missing.")]


def deploy(
    model: Model,
    /,
    *,
    name: Annotated[str | None, Parameter(metavar="NAME", help="Name of the endpoint; else one is made up.")] = None,
    instances: Annotated[int, Parameter(metavar="N", help="Processes that answer. [1]")] = 1,
    port: Annotated[int, Parameter(metavar="N", help="Port to listen on; else a free one.")] = 0,
    host: Annotated[str, Parameter(metavar="HOST", help="Address to listen on. [127.0.0.1]")] = "127.0.0.1",
    api_key: Annotated[
        str | None,
        Parameter(metavar="KEY", help="What callers have to send as X-Api-Key.", env_var="HOUNDSIGHT_API_KEY"),
    ] = None,
    runtime: Annotated[
        str, Parameter(metavar="NAME", help="auto, openvino-bf16, openvino-f32, openvino-int8, cuda or eager. [auto]")
    ] = "auto",
    top: Annotated[int, Parameter(metavar="N", help="How many classes an answer lists. [5]")] = 5,
    form: Annotated[
        str, Parameter(name="--format", metavar="WORD", help="How it answers: classes, or sagemaker. [classes]")
    ] = "classes",
    reject_below: Annotated[
        float, Parameter(metavar="NUMBER", help="Name no class where the best probability is lower. [0]")
    ] = 0.0,
    capture: Annotated[float, Parameter(metavar="NUMBER", help="Share of the requests to keep. [0]")] = 0.0,
    allow_url: Annotated[bool, Parameter(help="Fetch images that a request names by their address.")] = False,
    entry_point: EntryPoint = None,
    source_dir: SourceDir = None,
    trust_code: Trust = False,
    allow_requirements: Requirements = False,
    trust_pickle: TrustPickle = False,
    s3_endpoint: S3Endpoint = None,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Serve a model over HTTP; the endpoint lives on by itself until it is deleted."""
    made = verbs.deploy(
        model,
        name=name,
        instances=instances,
        host=host,
        port=port,
        api_key=api_key,
        runtime=runtime,
        top=top,
        form=form,
        reject_below=reject_below,
        capture=capture,
        allow_url=allow_url,
        script=Script(entry_point, source_dir, trust_code, allow_requirements, trust_pickle, s3_endpoint),
        workspace=workspace,
        tell=note,
    )
    if json:
        document(made.document())
        return
    say(f"{made.name} answers at {made.url}")
    key = " -H 'X-Api-Key: ...'" if made.key else ""
    say(f"  houndsight invoke {made.name} IMAGE...")
    say(f"  curl{key} -H 'Content-Type: image/jpeg' --data-binary @IMAGE {made.url}/invocations")


def update(
    name: Name,
    model: Annotated[str | None, Parameter(help="The new model: a job, a folder or a model.tar.gz.")] = None,
    /,
    *,
    instances: Annotated[int | None, Parameter(metavar="N", help="Instances of every variant.")] = None,
    canary: Annotated[
        str | None, Parameter(metavar="SHARE", help="Share of the requests for the new model at first, such as 10%.")
    ] = None,
    variants: Annotated[
        str | None,
        Parameter(metavar="NAME=SHARE,...", help="Shares of all variants from now on; the new one of them is MODEL."),
    ] = None,
    bake: Annotated[
        float, Parameter(metavar="SECONDS", help="How long the new model is watched before the old one goes. [10]")
    ] = 10.0,
    entry_point: EntryPoint = None,
    source_dir: SourceDir = None,
    trust_code: Trust = False,
    allow_requirements: Requirements = False,
    trust_pickle: TrustPickle = False,
    s3_endpoint: S3Endpoint = None,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Change an endpoint while it answers: another model, other shares, more or fewer instances.

    A new model starts beside the old one and is tried before a request goes to it; it is taken back by itself where
    it then answers with errors or loses an instance.
    """
    found = verbs.open_endpoint(name, workspace=workspace)
    try:
        found.update(
            model,
            instances=instances,
            canary=None if canary is None else _share(canary, "canary"),
            variants=None if variants is None else _shares(variants),
            bake=bake,
            script=Script(entry_point, source_dir, trust_code, allow_requirements, trust_pickle, s3_endpoint),
            workspace=workspace,
            tell=note,
        )
    except KeyboardInterrupt:
        note(f"\nThe update goes on by itself; `houndsight describe {name}` shows how it ends.")
        return 1
    if json:
        document(found.document())
    else:
        say(f"{name}: {found.state} at {found.url}")
    return 0


def _share(text: str, flag: str) -> float:
    """`10%` or `0.1` as 0.1."""
    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise SpecError(f"One setting is wrong: {flag}: '{text}' is no share.", "Write 10% or 0.1.") from None


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, given, number = part.strip().partition("=")
        if not given or not name or name in shares:
            raise SpecError(
                f"One setting is wrong: variants: '{part.strip()}' is not NAME=SHARE.", "Write a=0.9,b=0.1."
            )
        shares[name] = _share(number, "variants")
    return shares


def invoke(
    name: Name,
    /,
    *images: Annotated[Path, Parameter(help="Image files.")],
    top: Annotated[int | None, Parameter(metavar="N", help="How many classes an image at most.")] = None,
    variant: Annotated[str | None, Parameter(metavar="NAME", help="Which variant is to answer.")] = None,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Ask an endpoint what is on some images; it answers as `houndsight predict` does.

    An image that it refuses is reported in its place and makes the exit code 2; the others are answered.
    """
    if not images:
        raise SpecError("No images were given.", "Type `houndsight invoke NAME IMAGE...`.")
    results = verbs.invoke(name, images, top=top, variant=variant, workspace=workspace)
    if json:
        document(results)
    else:
        for result in results:
            _write_predictions(result)
    return 2 if any("error" in result for result in results) else 0


def _write_predictions(result: dict[str, Any]) -> None:
    if "error" in result:
        note(f"{result['image']}: {result['error']['message']}")
        return
    say(result["image"])
    if "answer" in result:
        say(f"  {encoder.dumps(result['answer'])}")
    for each in result["predictions"]:
        say(f"  {percent(each['probability']):>7}  {each['class']}")


def endpoints(*, workspace: Place = None, json: Json = False) -> None:
    """List the endpoints of the workspace, oldest first."""
    found = verbs.endpoints(workspace=workspace)
    if json:
        document([{**each.document(), "reason": each.status.reason} for each in found])
    elif not found:
        say("No endpoints yet. Start with: houndsight deploy MODEL")
    else:
        table((_row(each) for each in found), ("ENDPOINT", "STATE", "INSTANCES", "URL", "MADE", "WHY"))


def _row(each: Deployment) -> tuple[str, ...]:
    status = each.status
    alive = status.state not in ("Failed", "Deleting")
    ready = sum(one.state == "ready" for one in status.instances) if alive else 0
    wanted = sum(variant.instances for variant in each.spec.variants)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.created))
    return each.name, status.state, f"{ready} of {wanted}", status.url, made, status.reason


def describe(name: Name, /, *, workspace: Place = None, json: Json = False) -> None:
    """Say what an endpoint serves, how it stands, and what its instances do now."""
    whole = verbs.open_endpoint(name, workspace=workspace).describe()
    if json:
        document(whole)
        return
    say(f"{name}: {whole['state']} at {whole['url']}")
    if whole["reason"]:
        say(f"  {whole['reason']}")
    rows = (
        (each["name"], f"{each['weight']:g}", str(each["instances"]), str(each.get("runtime", "-")), each["model"])
        for each in whole["variants"]
    )
    table(rows, ("VARIANT", "WEIGHT", "INSTANCES", "RUNTIME", "MODEL"))
    for each in whole["variants"]:
        if each.get("problem"):
            say(f"{each['name']} answers every request with 500. {each['problem']}")
    if whole["running"]:
        table((_instance(each) for each in whole["running"]), (*_COLUMNS, "WHY RESTARTED"))


_COLUMNS = ("INSTANCE", "VARIANT", "STATE", "PID", "REQUESTS", "ERRORS", "MEMORY", "RESTARTS")


def _instance(each: dict[str, Any]) -> tuple[str, ...]:
    memory = megabytes(each["memory_bytes"]) if "memory_bytes" in each else "-"
    return (
        str(each["slot"]),
        each["variant"],
        each["state"],
        str(each["pid"] or "-"),
        str(each.get("requests", "-")),
        str(each.get("errors", "-")),
        memory,
        str(each["restarts"]),
        each["reason"],
    )


def delete_endpoint(name: Name, /, *, workspace: Place = None, json: Json = False) -> None:
    """Let an endpoint finish what it has accepted, end its processes, and remove its folder."""
    verbs.delete_endpoint(name, workspace=workspace)
    if json:
        document({"endpoint": name, "state": "Deleted"})
    else:
        say(f"{name} is deleted.")
