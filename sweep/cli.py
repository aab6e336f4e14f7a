"""The command `sweep`: what can be done with runs and studies after train.py.

sweep --help           each verb in a line
sweep VERB --help      one of them
"""

import importlib
import sys

from sweep import interrupts, project

VERBS = {
    "list": ("sweep.results.list", "the studies that there are, newest first"),
    "report": ("sweep.results.report", "the best trial, the plots and the page of a study, once more"),
    "best": ("sweep.results.best", "fetch the best model, check its score, say how to load it"),
    "confirm": ("sweep.results.confirm", "train a study's best settings again with fresh seeds"),
    "rerun": ("sweep.results.rerun", "train a run again from its record, and compare bit for bit"),
    "delete": ("sweep.results.delete", "delete a study: its runs, its files, its trials"),
    "predict": ("sweep.digits.predict", "read handwritten digits from image files"),
    "draw": ("sweep.digits.draw", "a page to draw a digit on, which the model reads"),
    "visualize": ("sweep.digits.visualize", "draw a data set, before and after its preprocessing"),
}

_LINES = "\n".join(f"    {verb:12}{line}" for verb, (_, line) in VERBS.items())
HELP = f"""\
sweep VERB ...    (sweep VERB --help says more)

{_LINES}

Runs, grids and studies are started in the project's folder:

    python sweep/train.py                            one run
    python sweep/train.py -m hydra/sweeper=optuna    a study
    python sweep/train.py --help                     every setting"""


def main(arguments: list[str] | None = None) -> None:
    """Call the module of the verb that the command line names, with the words after it."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in ("-h", "--help"):
        print(HELP)
        return
    if not words or words[0] not in VERBS:
        given = f"sweep {words[0]}: there is no such verb" if words else "sweep: a verb is missing"
        sys.exit(f"error: {given}; choose one of {', '.join(VERBS)}, or see sweep --help")
    interrupts.end_quietly()
    module = importlib.import_module(VERBS[words[0]][0])  # only now: torch and MLflow take seconds
    try:
        interrupts.work_begins()
        project.settle_root_here()
        module.main(words[1:])
    except KeyboardInterrupt:
        sys.exit(interrupts.STOPPED)


if __name__ == "__main__":
    main()
