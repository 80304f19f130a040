"""Hand a job to a cluster and follow it: its id, its log, and its own exit code in the end."""

import asyncio
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from raydistill.core.errors import ConfigError, InputError, RaydistillError
from raydistill.core.interrupt import INTERRUPTED

POLL_S = 1.0
PATIENCE_S, NO_AGENT = 60.0, "No available agent"
"""A cluster that has just started answers before it has somebody who takes a job; one may be away for a moment."""

SECRET = re.compile(r"(SECRET|TOKEN(?!IZ)|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|ACCESS_KEY|API_KEY)", re.IGNORECASE)
"""Names of variables whose values stay out of what is handed to a cluster: everybody who sees its jobs sees those."""


def submit(
    address: str,
    job: str,
    arguments: Sequence[str],
    working_dir: Path,
    runtime_env: Path | None,
    say: Callable[[str], None],
) -> tuple[str, int]:
    """Submit `jobs/<job>.py`, follow its log and return its id and exit code; interrupted, leave it running.

    Args:
        address: of the cluster's dashboard, such as `http://127.0.0.1:8265`.
        job: `distill`, `tune` or `audit`.
        arguments: the job's own.
        working_dir: is uploaded; holds `jobs/`.
        runtime_env: YAML file of Ray's runtime environment.
        say: writes a line.

    Raises:
        ConfigError, InputError: when the folder holds no such job, the environment a secret, or nobody answers.
        RaydistillError: when nobody answers any more while the job runs.
    """
    if not (working_dir / "jobs" / f"{job}.py").is_file():
        raise InputError(f"{working_dir} holds no jobs/{job}.py: --working-dir is the folder of the project")
    environment = {**environment_of(runtime_env), "working_dir": str(working_dir)}
    client, found = _submitted(address, shlex.join(["python", f"jobs/{job}.py", *arguments]), environment)
    say(f"job {found} is on {address}")
    where = (
        f"Its log: ray job logs --follow --address {address} {found}; its end: ray job stop --address {address} {found}"
    )
    try:
        code = _followed(client, found, where, say)
    except KeyboardInterrupt:
        say(f"job {found} goes on. {where}")
        return found, INTERRUPTED
    say(f"job {found} ended with exit code {code}")
    return found, code


def environment_of(file: Path | None) -> dict[str, Any]:
    """Read a runtime environment.

    Raises:
        InputError, ConfigError: when it can't be read, isn't one, or holds what looks like a secret.
    """
    from ray.runtime_env import RuntimeEnv

    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: a runtime environment is a mapping")
    secret = [name for name in content.get("env_vars") or {} if SECRET.search(str(name))]
    if secret:
        raise ConfigError(
            f"{file}: env_vars.{secret[0]} looks like a secret, and everybody who sees the cluster's jobs sees these: "
            "give it to the nodes (instance role, secret of the pod), not to the job"
        )
    unknown = sorted(map(str, set(content) - RuntimeEnv.known_fields))
    if unknown:
        known = ", ".join(sorted(name for name in RuntimeEnv.known_fields if not name.startswith("_")))
        raise ConfigError(f"{file}: {unknown[0]} isn't a part of a runtime environment: {known} are")
    try:
        RuntimeEnv(**content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from error
    return dict(content)


def _submitted(address: str, entrypoint: str, environment: dict[str, Any]) -> tuple[Any, str]:
    from ray.job_submission import JobSubmissionClient

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            client = JobSubmissionClient(address)
            return client, client.submit_job(entrypoint=entrypoint, runtime_env=environment)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if NO_AGENT not in str(error) or time.monotonic() > deadline:
                said = " ".join(str(error).split())
                raise InputError(f"no job could be submitted to {address}: {said}") from error
        time.sleep(POLL_S)


def _followed(client: Any, job: str, where: str, say: Callable[[str], None]) -> int:
    """Say a job's log as it grows, wait for its end, and return its exit code."""
    from aiohttp import ClientError

    try:
        asyncio.run(_tell(client, job, say))
    except (OSError, RuntimeError, ClientError) as error:
        say(f"the log of job {job} broke off: {' '.join(str(error).split())}. {where}")
    return _ended(client, job, where)


async def _tell(client: Any, job: str, say: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        for line in lines.rstrip("\n").split("\n"):
            say(line)


def _ended(client: Any, job: str, where: str) -> int:
    """Wait for a job's end, whether or not its log was there all the time; return its exit code."""
    answered = time.monotonic()
    while True:
        try:
            info = client.get_job_info(job)
        except (OSError, RuntimeError) as error:
            if time.monotonic() - answered > PATIENCE_S:
                said = " ".join(str(error).split())
                raise RaydistillError(
                    f"nobody says any more how job {job} is, and it may go on: {said}. {where}"
                ) from error
        else:
            answered = time.monotonic()
            if info.status.is_terminal():
                break
        time.sleep(POLL_S)
    code = info.driver_exit_code
    # Of a job that was stopped, or whose node went away, there is none.
    return int(code) if code is not None else int(info.status.name != "SUCCEEDED")
