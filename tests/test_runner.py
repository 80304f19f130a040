"""The runner on small stages of its own: caching, early cut-off, kills, verification."""

import os

import cloudpickle
import pytest
import yaml

from raydistill.core.config import Config
from raydistill.core.errors import InputError, LineageError, NothingToDo
from raydistill.core.section import Compute, Section
from raydistill.core.store import Store
from raydistill.runner import Runner
from raydistill.stages.base import Outcome, Stage


class Word(Section):
    word: str
    compute: int = 0


class Write(Stage):
    """Writes its word, and beside it a file that doesn't depend on it."""

    runs = 0

    def run(self, context):
        type(self).runs += 1
        context.work.write_bytes("scratch", b"x")
        context.out.write_bytes("a/word", self.config.word.encode())
        context.out.write_bytes("b/same", b"same")
        return Outcome(counts={"words": 1})


class Copy(Stage):
    """Copies its input, after its own word; dies once when asked to."""

    runs = 0
    die = False

    def run(self, context):
        type(self).runs += 1
        context.out.write_bytes("half", b"half")
        if type(self).die:
            type(self).die = False
            raise KeyboardInterrupt
        context.out.delete("half")
        text = context.inputs["from"].read_bytes(context.inputs["from"].files()[0]) + self.config.word.encode()
        context.out.write_bytes("text", text)
        return Outcome()


class Idle(Copy):
    """Has nothing to do, after it wrote something."""

    def run(self, context):
        context.out.write_bytes("half", b"half")
        raise NothingToDo("no word to copy")


class Say(Stage):
    """Writes the same whatever its word, which only its facts hold."""

    def run(self, context):
        context.out.write_bytes("a/same", b"same")
        return Outcome(facts={"word": self.config.word})


class Judge(Copy):
    """Runs although its input was skipped, and says why."""

    accepts_skipped = True

    def run(self, context):
        context.out.write_bytes("said", context.manifests["from"].skipped.encode())
        return Outcome()


class Claim(Write):
    """Asks for workers of a size, and goes on with what a killed attempt left."""

    resumable = True

    @property
    def compute(self):
        return Compute(num_workers=self.config.compute)

    def run(self, context):
        first = not context.out.exists("a/word")
        outcome = super().run(context)
        if first and self.config.word == "die":
            raise KeyboardInterrupt
        return outcome


@pytest.fixture(autouse=True)
def _zero():
    Write.runs = Copy.runs = 0


def wire(first="one", second="!", folder="a", compute=0):
    write = Write("write", Word(word=first, compute=compute), {}, 0)
    return [write, Copy("copy", Word(word=second), {"from": write[folder]}, 0)]


def run(store, stages):
    runner = Runner(store, Config(), stages)
    runner.open()
    return [runner.execute(stage) for stage in stages], runner


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "run"))


def test_the_same_again_does_nothing(store):
    first, _ = run(store, wire())
    again, runner = run(store, wire(compute=5))
    assert [cached for _, cached in again] == [True, True]
    assert [m for m, _ in again] == [m for m, _ in first]
    assert (Write.runs, Copy.runs) == (1, 1)
    assert [line.state for line in runner.plan()] == ["cached", "cached"]
    assert not store.exists(".work/write/" + first[0][0].key)


def test_a_folder_is_of_the_configuration_that_it_was_opened_with(store):
    stages = wire()
    runner = Runner(store, Config(), stages)
    assert not runner.is_of_this()
    runner.open()
    assert runner.is_of_this()
    assert not Runner(store, Config(name="other"), stages).is_of_this()


def test_a_change_reruns_only_what_follows_and_keeps_the_old_artifact(store):
    old, _ = run(store, wire())
    new, _ = run(store, wire(second="?"))
    assert (Write.runs, Copy.runs) == (1, 2)
    assert (store / "copy" / old[1][0].key).read_bytes("text") == b"one!"
    assert (store / "copy" / new[1][0].key).read_bytes("text") == b"one?"


def test_a_stage_depends_on_the_folder_it_reads_and_not_on_the_one_beside_it(store):
    run(store, wire(folder="b"))
    _, runner = run(store, wire(first="two", folder="b"))
    assert (Write.runs, Copy.runs) == (2, 1)
    assert list(runner.verify()) == [("write", 2), ("copy", 1)]


def test_who_reads_a_whole_artifact_depends_on_what_its_manifest_says(store):
    def wired(count):
        said = Say("say", Word(word=str(count)), {}, 0)
        return [
            said,
            Copy("all", Word(word="!"), {"from": said[""]}, 0),
            Copy("part", Word(word="!"), {"from": said["a"]}, 0),
        ]

    run(store, wired(1))
    again, _ = run(store, wired(2))
    assert [cached for _, cached in again] == [False, False, True]


def test_what_is_upstream_of_a_change_waits_in_the_plan(store):
    run(store, wire())
    assert [line.state for line in Runner(store, Config(), wire(first="new")).plan()] == ["to run", "waiting"]


def test_a_killed_stage_leaves_no_artifact_and_no_half_of_one(store):
    Copy.die = True
    with pytest.raises(KeyboardInterrupt):
        run(store, wire())
    assert [line.state for line in Runner(store, Config(), wire()).plan()] == ["cached", "to run"]
    done, _ = run(store, wire())
    assert [entry.path for entry in done[1][0].files] == ["text"]
    assert Write.runs == 1


def test_what_follows_from_a_node_with_nothing_to_do_is_skipped_but_for_who_judges(store):
    def wired():
        write = Write("write", Word(word="a"), {}, 0)
        idle = Idle("idle", Word(word="b"), {"from": write["a"]}, 0)
        after = Copy("after", Word(word="c"), {"from": idle[""]}, 0)
        return [write, idle, after, Judge("judge", Word(word="d"), {"from": after[""]}, 0)]

    done, runner = run(store, wired())
    assert [manifest.skipped for manifest, _ in done] == [None, "no word to copy", "no word to copy", None]
    assert [len(manifest.files) for manifest, _ in done] == [2, 0, 0, 1]
    assert runner.artifact("judge", done[3][0].key).read_bytes("said") == b"no word to copy"
    assert Copy.runs == 0
    again, _ = run(store, wired())
    assert all(cached for _, cached in again)
    assert len(list(runner.verify())) == 4


def test_a_known_key_is_taken_as_given(store):
    done, _ = run(store, wire())
    known = Runner(store, Config(), wire(first="elsewhere"), {"write": done[0][0].key})
    assert [line.state for line in known.plan()] == ["cached", "cached"]
    assert len(list(known.verify())) == 2


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda s, key: s.write_bytes(f"write/{key}/a/word", b"ONE"), "write: a/word .* isn't what its manifest says"),
        (lambda s, key: s.delete(f"write/{key}/b/same"), "write: b/same is missing"),
        (lambda s, key: s.write_bytes(f"write/{key}/c", b""), "write: c .* isn't in its manifest"),
        (lambda s, key: s.delete(f"write/{key}/manifest.json"), "write: no artifact with key"),
    ],
)
def test_verify_names_the_first_broken_link(store, harm, message):
    done, runner = run(store, wire())
    assert list(runner.verify()) == [("write", 2), ("copy", 1)]
    harm(store, done[0][0].key)
    with pytest.raises(LineageError, match=message):
        list(Runner(store, Config(), wire()).verify())


def test_a_folder_that_is_not_a_run_of_this_schema_is_refused(store):
    store.write_bytes("holiday.jpg", b"")
    with pytest.raises(InputError, match="isn't a run folder"):
        run(store, wire())
    store.write_bytes("config.yaml", yaml.safe_dump({"schema": 99}).encode())
    with pytest.raises(InputError, match="schema 99"):
        run(store, wire())


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path / "file", "is a file"), (tmp_path / "file/run", "can't be written")):
        with pytest.raises(InputError, match=message):
            run(Store.open(str(path)), wire())


def test_what_goes_to_a_worker_leaves_the_terminal_behind(store):
    stages = wire()
    runner = Runner(store, Config(), stages)
    runner.open()
    with open(os.devnull, "w") as terminal:
        context = runner.context(stages[0], lambda *news: print(file=terminal), lambda rows: print(file=terminal))
        with pytest.raises(Exception, match="not opened for reading"):
            cloudpickle.dumps(context)
        assert cloudpickle.loads(cloudpickle.dumps(context.silent())).seed == context.seed


def test_a_manifest_says_where_its_node_ran_and_whether_its_seconds_are_all(tmp_path):
    store = Store.open(str(tmp_path))
    plain, dies = (Claim(word, Word(word=word, compute=3), {}, 0) for word in ("plain", "die"))
    runner = Runner(store, Config(), [plain, dies])
    runner.open()
    manifest, _ = runner.execute(plain)
    assert manifest.compute["num_workers"] == 3
    assert not manifest.resumed
    with pytest.raises(KeyboardInterrupt):
        runner.execute(dies)
    manifest, _ = runner.execute(dies)
    assert manifest.resumed
    assert runner.execute(Write("driver", Word(word="x"), {}, 0))[0].compute is None


def test_where_a_node_ran_is_in_no_digest(tmp_path):
    store = Store.open(str(tmp_path))
    runner = Runner(store, Config(), [])
    runner.open()
    digests = []
    for workers in (1, 2):
        manifest, _ = runner.execute(Claim("claim", Word(word="x", compute=workers), {}, 0))
        digests.append((manifest.key, manifest.view_digest(""), manifest.view_digest("a")))
        store.delete("claim")
    assert digests[0] == digests[1]
