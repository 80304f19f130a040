"""Following a job that was handed over: what is said where its log breaks off, or nobody answers; what isn't a secret."""

from types import SimpleNamespace

import pytest
import yaml

from raydistill import submitting
from raydistill.core.errors import ConfigError, InputError, RaydistillError
from raydistill.submitting import environment_of, submit
from tests.cluster_files.shipped import CLUSTER, ROOT

ADDRESS = "http://127.0.0.1:1"


class Client:
    """Answers as a dashboard would whose connection breaks off; after that many questions it answers again."""

    def __init__(self, unanswered, code=3):
        self.unanswered, self.code = unanswered, code

    async def tail_job_logs(self, job):
        yield "first line\n"
        raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, job):
        self.unanswered -= 1
        if self.unanswered >= 0:
            raise ConnectionError("connection refused")
        status = SimpleNamespace(name="FAILED", is_terminal=lambda: True)
        return SimpleNamespace(status=status, driver_exit_code=self.code)


@pytest.fixture
def following(monkeypatch):
    """Follow a job of such a client: its id and exit code, and what was said."""

    def follow(client):
        monkeypatch.setattr(submitting, "POLL_S", 0.01)
        monkeypatch.setattr(submitting, "PATIENCE_S", 0.1)
        monkeypatch.setattr(submitting, "_submitted", lambda *_: (client, "job-1"))
        lines = []
        return submit(ADDRESS, "distill", [], ROOT, None, lines.append), lines

    return follow


def test_where_the_log_breaks_off_the_end_is_waited_for(following):
    ended, lines = following(Client(unanswered=2))
    assert ended == ("job-1", 3)
    assert lines[0] == f"job job-1 is on {ADDRESS}"
    assert lines[1] == "first line"
    assert lines[2].startswith(
        "the log of job job-1 broke off: WebSocket connection closed unexpectedly. Its log: ray job"
    )
    assert lines[3] == "job job-1 ended with exit code 3"


def test_where_nobody_answers_any_more_the_job_is_not_given_up(following):
    with pytest.raises(RaydistillError, match=r"it may go on: connection refused\. Its log: ray job logs --follow"):
        following(Client(unanswered=10**6))


def test_an_address_that_is_none_is_one_line(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"no job could be submitted to nonsense: .*nonsense"):
        submit("nonsense", "distill", [], ROOT, None, print)


def test_the_environment_that_is_shipped_may_be_handed_over():
    file = CLUSTER / "runtime_env.yaml"
    assert environment_of(file) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "token", "WANDB_API_KEY"])
def test_what_looks_like_a_secret_may_not(tmp_path, name):
    file = tmp_path / "env.yaml"
    file.write_text(f"env_vars: {{{name}: x}}")
    with pytest.raises(ConfigError, match=name):
        environment_of(file)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[a", "while parsing"),
        ("- pip", "is a mapping"),
        ("source: {path: cohort}", "source isn't a part of a runtime environment: conda, config,"),
        ("env_vars: [A]", "env_vars.* must be of type Dict"),
        ("env_vars: {A: 1}", "the value 1 is of type"),
    ],
)
def test_what_is_no_runtime_environment_is_said_in_a_line(tmp_path, written, said):
    file = tmp_path / "env.yaml"
    file.write_text(written)
    with pytest.raises((ConfigError, InputError), match=f"env.yaml: .*{said}") as refused:
        environment_of(file)
    assert "\n" not in str(refused.value)
