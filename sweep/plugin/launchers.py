"""What the launchers of Hydra's plugins are told and asked, so that studies run on a cluster as they do here."""

import logging
import os
import shutil
import socket
from typing import Any

from omegaconf import OmegaConf

from sweep.errors import SweepError, in_one_line
from sweep.plugin.workers import WorkerLauncher

SENT_TO_NODES = ("MLFLOW_", "SWEEP_")
"""What a job reads from the environment; the nodes of a cluster were started without it."""

SECONDS_TO_ANSWER = 5


def prepare(launcher: Any) -> None:
    """Complete the settings of `launcher`.

    Raises:
        SweepError: It has nothing to run jobs on.
    """
    kind = type(launcher).__name__
    if kind == "SlurmLauncher" and shutil.which("srun") is None:
        raise SweepError(
            "hydra/launcher=submitit_slurm: there is no Slurm here, srun is not on the PATH; start the study where "
            "jobs are submitted, or try it with hydra/launcher=submitit_local"
        )
    if kind == "RayLauncher":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless told not to
        # At other levels it would print what the nodes are sent, and a password may be among it.
        logging.getLogger("hydra_plugins.hydra_ray_launcher").setLevel(logging.WARNING)
        _require_cluster(launcher.ray_cfg.init.get("address") or os.environ.get("RAY_ADDRESS"))
        launcher.ray_cfg = OmegaConf.merge(_ray_defaults(), launcher.ray_cfg)


def _ray_defaults() -> dict[str, Any]:
    sent = {
        name: value.replace("${", r"\${")  # which would be an interpolation
        for name, value in os.environ.items()
        if name.startswith(SENT_TO_NODES)
    }
    return {
        "init": {"runtime_env": {"env_vars": sent}, "log_to_driver": False, "logging_level": "warning"},
        # By default Ray runs the job of a worker that died again, and the record would have its trial twice.
        "remote": {"max_retries": 0},
    }


def _require_cluster(address: str | None) -> None:
    """Ray itself asks for minutes on end."""
    if address is None or ":" not in address or "://" in address:  # one to be started, "auto", "local", a client's
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise SweepError(
            f"hydra.launcher.ray.init.address={address}: no Ray cluster answers there ({error}); "
            "`ray start --head` starts one and tells its address"
        ) from error


def connect_ray(launcher: Any) -> int:
    """Connect to the cluster that `launcher` names, before its slots would all try to; return its number of CPUs.

    Raises:
        SweepError: It cannot be done.
    """
    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

    try:
        start_ray(launcher.ray_cfg.init)
    except Exception as error:  # whatever Ray raises: no cluster, another version's, settings that it does not know
        raise SweepError(f"hydra/launcher=ray: {in_one_line(error, 300)}") from error
    return int(ray.cluster_resources().get("CPU", 1))


def stop(launcher: Any) -> None:
    """Kill the processes of this machine that `launcher` keeps from job to job, whatever they are doing."""
    if isinstance(launcher, WorkerLauncher):
        launcher.stop()
    elif type(launcher).__name__ == "JoblibLauncher" and launcher.joblib["n_jobs"] > 1:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(kill_workers=True)
