"""How much an attack asks for: twice what is usually asked, also where that follows from the prompts."""

import pyarrow as pa
import pytest

from raydistill.core.generation import AttackConfig, SampleConfig
from raydistill.core.store import Store
from raydistill.data.prompts import FREQUENCIES
from raydistill.stages import attack
from raydistill.stages.attack import Attack, AttackNodeConfig
from raydistill.stages.base import Context


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What is asked of workers, without any."""
    rows = [{"prompt": prompt, "count": count} for prompt, count in (("chest x-ray", 3), ("chest x-ray, effusion", 5))]
    root = Store.open(str(tmp_path))
    root.write_table("prompts/part-0.parquet", pa.Table.from_pylist(rows, schema=FREQUENCIES))
    made = []
    monkeypatch.setattr(attack, "side_of", lambda model: 32)
    monkeypatch.setattr(attack, "make_samples", lambda context, shards, requests, way: made.extend(shards))

    def run(how, **samples):
        made.clear()
        config = AttackNodeConfig(attack=AttackConfig(**how), samples=SampleConfig(**samples))
        context = Context({name: root / name for name in ("model", "prompts")}, root / "out", root / "work", 0)
        counts = Attack("student_attack", config, {}, 0).run(context).counts
        assert counts == {"rows": sum(sum(shard.rows) for shard in made)}
        return counts["rows"]

    return run


def test_twice_as_many_are_asked_for_as_the_prompts_come_to(asked, tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("prompt,count\nchest x-ray,7\nchest x-ray with effusion,1\n")
    assert asked({}, num_samples=50) == 100
    assert asked({}, num_samples=1, requests={"per_prompt": 100}) == 2 * 100 * 2
    assert asked({}, num_samples=1, requests={"per_prompt": 100, "table": str(table)}) == 2 * 100 * 8
    assert asked({"num_samples": 9}, num_samples=1, requests={"per_prompt": 100}) == 4 * 9


def test_other_attacks_keep_their_keys():
    def key(how, **samples):
        config = AttackNodeConfig(attack=AttackConfig(**how), samples=SampleConfig(**samples))
        return Attack("student_attack", config, {}, 0).key_config()

    assert "counted" not in key({})
    assert "counted" not in key({"num_samples": 9}, requests={"per_prompt": 3})
    assert key({}, requests={"per_prompt": 3})["counted"] == 2
