"""The table of commands: name, where its function stands, and one sentence; what the root's help shows."""

ABOUT = "From a folder of labelled images to a tuned, inspected and deployed classifier."
ABOUT_WEIGHTS = "The cache of pretrained weights that training and scripts share."
COMMANDS = {
    "demo": ("demo:demo", "The whole way on real images, on this machine, in about a minute."),
    "check": ("check:check", "Read all images, train nothing, and say what is wrong with the data."),
    "train": ("train:train", "Train a classifier on a folder of images."),
    "tune": ("tune:tune", "Search hyperparameters: many jobs, one honest result."),
    "run": ("run:run", "Run a SageMaker training script as a job, as it is."),
    "evaluate": ("models:evaluate", "Measure a model on labelled images; with two models, compare them."),
    "predict": ("models:predict", "Name what is on some images."),
    "export": ("export:export", "Write a model for another runtime: ONNX or OpenVINO."),
    "report": ("jobs:report", "Build a job's page again and open it."),
    "profile": ("profile:profile", "Say what limits the speed of a training, and prove what a change wins."),
    "deploy": ("endpoints:deploy", "Serve a model over HTTP."),
    "update": ("endpoints:update", "Change an endpoint while it answers: model, shares, instances."),
    "invoke": ("endpoints:invoke", "Ask an endpoint what is on some images."),
    "endpoints": ("endpoints:endpoints", "List the endpoints."),
    "describe": ("endpoints:describe", "Say how an endpoint stands and what its instances do."),
    "delete-endpoint": ("endpoints:delete_endpoint", "End an endpoint and remove it."),
    "replay": ("replay:replay", "Do one step of a training again and say what went bad in it."),
    "jobs": ("jobs:jobs", "List the jobs."),
    "logs": ("jobs:logs", "Show what a job or an endpoint printed."),
    "stop": ("jobs:stop", "Stop a job; it can go on later."),
}
WEIGHTS = {
    "list": ("weights:list_", "List the weights at hand."),
    "add": ("weights:add", "Add a file of weights."),
    "fetch": ("weights:fetch", "Download published weights."),
}


def root_help() -> str:
    """What `houndsight --help` prints."""
    rows = [(name, sentence) for name, (_, sentence) in COMMANDS.items()]
    rows += [
        ("weights", ABOUT_WEIGHTS),
        ("--help, -h", "Show this, or a command's own help."),
        ("--version", "Show the version."),
    ]
    lines = [f"  {name:<17}{sentence}" for name, sentence in rows]
    return "\n".join(["Usage: houndsight COMMAND", "", ABOUT, "", "Commands:", *lines])
