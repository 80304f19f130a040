"""Variables that must be set before libraries are imported."""

import os

LIBRARY_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # Importing DeepSpeed on the driver looks for a device and warns; workers are told theirs by configuration.
    "DS_ACCELERATOR": "cpu",
    # Several libraries each bring a pool of spinning threads; on few cores they are ten times slower than one thread.
    "OMP_NUM_THREADS": "1",
    # Ray Data's actors make Ray's core warn at every pool.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Ray Tune's newer reporter prints a box whatever its verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C would end a search early and go on with the trials that there are.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # TensorBoard would show a run of its own for every trial beside the search's HParams.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}

LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A Ray that stays on this machine binds to loopback; the variable's name is Ray's, the effect is not OS-bound.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS": "0",
    # Nobody gives notice that a laptop is about to be taken away; a process less to start.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def prepare_libraries() -> None:
    """Keep libraries from chattering and from spinning; call it before they are imported. A set variable wins."""
    for name, value in LIBRARY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
