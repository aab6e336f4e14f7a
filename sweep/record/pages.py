"""MLflow's pages: how they list the trials of a study, and the commands that show them."""

import json
import shlex
from collections.abc import Sequence

import mlflow
from mlflow.tracking import MlflowClient

from sweep.errors import without_password
from sweep.record.connect import default_uri
from sweep.record.runs import RunRecord, quoted
from sweep.record.tags import KIND_TAG, STUDY_TAG


def save_view(study: RunRecord, params: Sequence[str]) -> None:
    """Save with the experiment how MLflow's pages should list the trials of `study`: best first, with columns.

    The columns are the objectives and these `params`. A person saves the same with MLflow's *Share* button; the pages
    by themselves show neither metrics nor params, and open on a view made for language models.
    """
    columns = [f"metrics.`{objective}`" for objective in study.objectives]
    name = study.tags[STUDY_TAG]
    view = {
        "searchFilter": f"tags.`{STUDY_TAG}` = '{quoted(name)}' and tags.`{KIND_TAG}` = 'trial'",
        "orderByKey": columns[0],
        "orderByAsc": study.directions[0] == "minimize",
        "selectedColumns": [*columns, *(f"params.`{param}`" for param in params)],
    }
    MlflowClient().set_experiment_tag(study.experiment_id, f"mlflow.sharedViewState.{name}", json.dumps(view))


def where_to_look(study: RunRecord) -> list[str]:
    """Return lines with the command to type, and the page to open, for the trials of `study`."""
    uri = mlflow.get_tracking_uri()
    page = (
        f"/#/experiments/{study.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={study.tags[STUDY_TAG]}"
    )
    if uri.startswith("http"):
        return [without_password(uri).rstrip("/") + page]
    store = "" if uri == default_uri() else f" --backend-store-uri {shlex.quote(without_password(uri))}"
    where = "in the project's root, then open" if uri == default_uri() else "then open"
    return [f"mlflow ui{store}    ({where})", f"http://127.0.0.1:5000{page}"]
