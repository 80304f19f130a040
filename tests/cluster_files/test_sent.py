"""What is sent along with a job is the code and no more; what Prometheus reads is where Ray writes it."""

import zipfile

import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE
from ray._private.runtime_env.packaging import create_package
from ray.runtime_env import RuntimeEnv

from tests.cluster_files.shipped import CLUSTER, ROOT, cluster_spec, manifests

ENVIRONMENT = yaml.safe_load((CLUSTER / "runtime_env.yaml").read_text())
CODE = [
    "jobs/distill.py",
    "jobs/nih64.yaml",
    "raydistill/core/presets/laptop.yaml",
    "constraints.txt",
    "cluster/README.md",
]
REST = [
    *(".git/config", ".venv/bin/python", ".venv-other/pyvenv.cfg", "runs/first/ingest/real.parquet", "cohort.parquet"),
    *("raydistill/__pycache__/cli.pyc", ".mypy_cache/x", "tests/test_cli.py", "docs/metrics.md", "dist/raydistill.whl"),
]


def test_ray_takes_the_environment_as_it_is():
    assert RuntimeEnv(**ENVIRONMENT)["env_vars"] == ENVIRONMENT["env_vars"]
    assert set(ENVIRONMENT) <= RuntimeEnv.known_fields


@pytest.mark.parametrize("planted", [{"env_vars": {"OMP_NUM_THREADS": 1}}, {"env_vars": ["A"]}, {"excludes": "runs"}])
def test_a_planted_mistake_is_refused(planted):
    with pytest.raises((TypeError, ValueError)):
        RuntimeEnv(**(ENVIRONMENT | planted))


def test_the_code_is_sent_and_neither_data_nor_environments(tmp_path):
    for name in (*CODE, *REST):
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    package = tmp_path / "sent.zip"
    create_package(str(tmp_path / "here"), package, include_gitignore=True, excludes=ENVIRONMENT["excludes"])
    assert sorted(name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")) == sorted(CODE)


def test_a_job_on_kubernetes_takes_its_code_from_the_image():
    (job,) = manifests("rayjob")
    sent = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    assert set(sent) <= RuntimeEnv.known_fields
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert f"WORKDIR {sent['working_dir']}\n" in dockerfile
    assert "COPY jobs jobs\n" in dockerfile
    (submitter,) = job["spec"]["submitterPodTemplate"]["spec"]["containers"]
    assert submitter["image"] == cluster_spec("rayjob")["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]


def test_prometheus_reads_what_ray_writes():
    settings = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())
    (job,) = settings["scrape_configs"]
    assert [files["files"] for files in job["file_sd_configs"]] == [[f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]]
    assert set(settings) == {"global", "scrape_configs"}
    assert set(job) == {"job_name", "file_sd_configs"}
    assert (ROOT / "cluster" / "grafana" / "raydistill.json").exists()
