"""Settings that each launcher needs to run a study, and how many of its trials run at a time."""

import logging
import os
import shutil
import socket
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.description import Description
from sweep.errors import SweepError, in_one_line, require
from sweep.plugin.settings import Settings
from sweep.plugin.workers import WorkerLauncher

SENT_TO_NODES = ("MLFLOW_", "SWEEP_")
"""Beginnings of the environment variables that jobs need; a cluster's nodes were started without them."""

SECONDS_TO_ANSWER = 5

MOST_PER_CORE = 32
"""Most jobs at a time for each core of this machine; far more only use up its memory."""


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_default(config: DictConfig) -> bool:
    """Return whether no launcher has been chosen, so that jobs run on this machine."""
    return "BasicLauncher" in config.hydra.launcher._target_


def prepare_launcher(launcher: Any) -> None:
    """Complete the settings of `launcher` with those that it needs to run a study.

    Raises:
        SweepError: The launcher has nothing to run jobs on.
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
    """Raise a SweepError where no cluster answers at `address`; Ray itself would ask for minutes."""
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


def num_slots(launcher: Any, settings: Settings, num_gpus: int, n_trials: int) -> int:
    """Return how many trials are to run at a time.

    Args:
        launcher: The launcher that runs them, prepared.
        settings: The settings of the study.
        num_gpus: How many GPUs of this machine the trials can share; 0 if they train on the CPU.
        n_trials: How many trials there are in all.

    Raises:
        SweepError: The number is not known or too high, or the launcher cannot run the trials.
    """
    kind = type(launcher).__name__
    wanted: Any = settings.num_slots
    if kind == "RayLauncher":
        num_cpus = _connect_ray(launcher)
        wanted = num_cpus if wanted == "auto" else wanted
    elif kind == "JoblibLauncher" and wanted == "auto" and num_gpus > 1:
        raise SweepError(
            "hydra/launcher=joblib: its processes would all train on the first GPU; without hydra/launcher each "
            "worker process has a GPU of its own"
        )
    elif kind in ("BasicLauncher", "JoblibLauncher"):
        wanted = (num_gpus or num_cores()) if wanted == "auto" else wanted
    elif wanted == "auto" and settings.is_grid:
        wanted = n_trials  # a launcher of Hydra's is given a grid's jobs all at once
    require(
        wanted != "auto",
        "hydra.sweeper.n_jobs",
        "auto",
        "only this machine and a Ray cluster can be counted; say how many jobs to run at a time",
    )
    found = min(wanted, n_trials)
    most = MOST_PER_CORE * num_cores()
    require(
        kind not in ("BasicLauncher", "JoblibLauncher") or found <= most,
        "hydra.sweeper.n_jobs" if settings.max_batch_size is None else "hydra.sweeper.max_batch_size",
        settings.num_slots,
        f"must be at most {most} on this machine, {MOST_PER_CORE} for each core",
    )
    return int(found)


def with_slots(launcher: Any, num_slots: int, num_gpus: int) -> Any:
    """Return `launcher`, or worker processes in its place, for that many jobs at a time.

    A new launcher is not set up yet.
    """
    kind = type(launcher).__name__
    if kind == "JoblibLauncher":
        launcher.joblib["n_jobs"] = num_slots  # its processes, which all slots share
    return WorkerLauncher(num_slots, num_gpus) if kind == "BasicLauncher" and num_slots > 1 else launcher


def runs_in_process(launcher: Any) -> bool:
    """Return whether jobs run in this process, one after another."""
    return type(launcher).__name__ == "BasicLauncher"


def share_of_cores(launcher: Any, job: Description, composed: DictConfig, num_slots: int) -> list[str]:
    """Return the override that gives each of several jobs on this machine its share of the cores, if needed."""
    if (
        num_slots == 1
        or job.threads is None
        or OmegaConf.select(composed, job.threads) is not None
        or type(launcher).__name__ not in ("WorkerLauncher", "JoblibLauncher", "LocalLauncher")
    ):
        return []
    return [f"{job.threads}={max(1, num_cores() // num_slots)}"]


def _connect_ray(launcher: Any) -> int:
    """Connect to the cluster that `launcher` names, before all slots would try to, and return its number of CPUs.

    Raises:
        SweepError: No cluster answers.
    """
    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

    try:
        start_ray(launcher.ray_cfg.init)
    except Exception as error:  # whatever Ray raises: no cluster, another version's, settings that it does not know
        raise SweepError(f"hydra/launcher=ray: {in_one_line(error, 300)}") from error
    return int(ray.cluster_resources().get("CPU", 1))


def stop(launcher: Any) -> None:
    """Kill the processes that `launcher` keeps on this machine from job to job, whatever they are doing."""
    if isinstance(launcher, WorkerLauncher):
        launcher.stop()
    elif type(launcher).__name__ == "JoblibLauncher" and launcher.joblib["n_jobs"] > 1:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(kill_workers=True)
