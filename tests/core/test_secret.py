"""The run's secret: made once, kept to its owner, and the root of seeds that can't be guessed."""

import stat

from raydistill.core.secret import KEY_BYTES, KEY_FILE, private_seed, run_secret
from raydistill.core.store import Store


def test_a_run_has_one_secret_that_only_its_owner_reads(tmp_path):
    run = Store.open(str(tmp_path / "run"))
    secret = run_secret(run)
    assert len(secret) == KEY_BYTES
    assert run_secret(run) == secret
    assert run_secret(Store.open(str(tmp_path / "other"))) != secret
    assert stat.S_IMODE((tmp_path / "run" / KEY_FILE).stat().st_mode) == 0o600


def test_seeds_differ_by_secret_and_by_what_they_are_for():
    seeds = {private_seed(secret, node) for secret in (b"a", b"b") for node in ("student_samples", "else")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert private_seed(b"a", "else") == private_seed(b"a", "else")
