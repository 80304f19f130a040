"""A search in TensorBoard: what a trial set and what it came to can be read back from its events."""

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from raydistill.core.store import Store
from raydistill.distributed.hparams import write_hparams


def records(path):
    """Read TFRecords: length, checksum, bytes, checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size


def test_a_trial_is_read_back(tmp_path):
    trials = [
        {"x": 0.25, "n": 3, "utility": 0.75, "risk": float("nan")},
        {"x": 0.5, "n": 4, "utility": 0.5, "risk": 0.1},
    ]
    for _ in range(2):
        write_hparams(Store.open(str(tmp_path)), trials, ["x", "n"], ["utility", "risk"])
    files = sorted(tmp_path.rglob("events*"))
    assert [path.parent.name for path in files] == ["trial-0000", "trial-0001"]
    values = [value for event in records(files[0]) for value in event.summary.value]
    scalars = {value.tag: value.simple_value for value in values if value.HasField("simple_value")}
    assert scalars == {"utility": 0.75}
    about = {value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in values}
    started = about["_hparams_/session_start_info"].session_start_info.hparams
    assert {name: value.number_value for name, value in started.items()} == {"x": 0.25, "n": 3}
