"""No command deletes or overwrites a file that it did not write, wherever it writes."""

from pathlib import Path

import pytest
import soundfile
from matplotlib.figure import Figure
from support.clustered_audio import babble, babble_store
from support.public_checkpoints import TINY, toy_arrays, write_folder
from support.toys import CONFIGS, toy_anchor

from jepa_speech import ownership
from jepa_speech.analysis import report
from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.labelling.parts import LabelParts
from jepa_speech.store.store import Store

THEIRS = "by another program: jepa-speech did not write this\n"
LEFT = (".x.tmp", ".records.jsonl.0123456789ab.tmp", "x.partial", "README.md")
IN_A_STORE = (
    *LEFT,
    *(f"{folder}/{name}" for folder in ("shards", "index", "labels", "feature_means") for name in LEFT),
    *("work/plan.md", "work.precious/x", "work.0123456789ab/x", "workdir/checkpoints/1/x", "work_notes", "workshop/x"),
    *("labels/.x-k1/plan.md", "labels/.0123456789ab-0123456789ab-k16/x", "labels/work/x"),
)
ANCHOR = toy_anchor().fingerprint[:12]

# verb -> its command, and files of others that lie where it writes. Each file is tried alone, or all at once (ALL).
ALL = {
    "prepare a whole store again": ("prepare --input audio --out store --codec pcm16 --workers 1", IN_A_STORE),
    "merge parts": ("inspect store --merge", IN_A_STORE),
    "label": (
        "label --store store --anchor gmm.npz --top-k 2",
        (f"labels/.{ANCHOR}-0123456789ab-k2/x", *IN_A_STORE),
    ),
}
ONE = {
    "prepare": (
        "prepare --input audio --out OUT --workers 1",
        ("work/x", "work.x/x", "README.md", "shards/x", ".x.tmp"),
    ),
    "join": ("inspect store other/store --merge --out OUT", ("work/x", "work.x/x", "config.json", "records.jsonl")),
    "train": (
        "train --config TINY --workdir OUT --config.data.store=store --config.anchor.path=gmm.npz",
        ("config.json", "metrics.jsonl", "events.jsonl", "checkpoints/1/x", "tensorboard/x", "model.safetensors"),
    ),
    "import hf": ("import hf hf --out OUT", ("config.json", "metrics.jsonl", "model.safetensors", "checkpoints/x")),
    "export hf": (
        "export hf hf --out OUT",
        ("config.json", "README.md", "model.safetensors", "preprocessor_config.json"),
    ),
    "export s3prl": ("export s3prl hf --out OUT", ("expert.py", "hubconf.py", "model/README.md", "model/config.json")),
    "export onnx": ("export onnx hf --out OUT", ("model.onnx", "README.md")),
    "export stablehlo": (
        "export stablehlo hf --out OUT",
        ("model.stablehlo", "weights.safetensors", "README.md", "export.json"),
    ),
    "fit": ("fit gmm --store store --out OUT/a.npz --iterations 1", ("a.npz", "a.png", "a.metrics.jsonl")),
    "fit --curve": (
        "fit kmeans --store store --out OUT/a.npz --curve 0.0001",
        ("a.curve.jsonl", "a.curve.png", "a.curve/options.json"),
    ),
    "unfinished fit": ("fit gmm --store store --out OUT/a.npz --components 2", (".a.npz.unfinished",)),
    "embed": ("embed a.wav --checkpoint hf --out OUT/a.npz", ("a.npz",)),
    "embed to parquet": ("embed a.wav --checkpoint hf --out OUT/a.parquet", ("a.parquet",)),
    "transcribe": ("transcribe hf a.wav --out OUT/a.jsonl", ("a.jsonl",)),
    "probe": ("probe --checkpoint logmel --data audio --out OUT", ("logmel.json", "logmel/phones_confusion.png")),
    "analyze": ("analyze --checkpoint hf --store store --out OUT", ("report.html", "analysis.json")),
    "compare": (
        "compare --config SMALL --objectives pure_jepa --input audio --data audio --budget 1 --out OUT",
        ("report.html", "compare.json", "ladder.png"),
    ),
    "demo": ("demo --data audio --out OUT", ("report.html",)),
    "--json": ("inspect store --json OUT/a.json", ("a.json",)),
    "--json over an anchor": ("inspect store --json gmm.npz", ()),
    "embed over an anchor": ("embed a.wav --checkpoint hf --out gmm.npz", ()),
    "fit over a model": ("fit gmm --store store --out hf/model.safetensors", ()),
}


CASES = [(verb, name) for verb, (_, names) in ONE.items() for name in names or ("",)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("foreign")
    babble_store(place, [0.6, 0.5])
    babble_store(place / "other", [0.4], seed=7)
    toy_anchor().save(place / "gmm.npz")
    write_folder(place / "hf", TINY, toy_arrays(TINY, "hubert."))
    soundfile.write(place / "a.wav", babble(0.5), 16_000)
    return place


def contents(folder: Path) -> dict[Path, bytes]:
    """Of every file but those of locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".jepa-speech.lock"))
    return {path: path.read_bytes() for path in found}


def put(folder: Path, names) -> dict[Path, bytes]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(THEIRS)
    return {folder / name: THEIRS.encode() for name in names}


def run(command: str, out: Path) -> int:
    named = {"OUT": out, "TINY": CONFIGS / "tiny.py", "SMALL": CONFIGS / "compare_small.py"}
    words = command.split()
    for name, path in named.items():
        words = [word.replace(name, str(path)) for word in words]
    return main(words)


@pytest.mark.parametrize("verb", ALL)
def test_in_a_store(place, monkeypatch, capsys, verb):
    monkeypatch.chdir(place)
    command, names = ALL[verb]
    theirs = put(place / "store", names)
    assert run(command, place) == 0
    kept = "store/work: kept, because it lacks jepa-speech's mark"
    assert (kept in capsys.readouterr().err) == (verb != "label")
    assert {path: path.read_bytes() for path in theirs} == theirs


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_where_a_verb_writes(place, monkeypatch, tmp_path, capsys, verb, name):
    """The command is refused in one line, and nothing at all is written."""
    monkeypatch.chdir(place)
    out = tmp_path / "out"
    out.mkdir()
    put(out, [name] if name else [])
    before = contents(tmp_path) | contents(place / "hf") | contents(place / "other")
    before[place / "gmm.npz"] = (place / "gmm.npz").read_bytes()
    assert run(ONE[verb][0], out) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jepa-speech ")]
    assert len(lines) == 1 and any(word in lines[0] for word in ("choose", "remove", "another"))
    after = contents(tmp_path) | contents(place / "hf") | contents(place / "other")
    after[place / "gmm.npz"] = (place / "gmm.npz").read_bytes()
    assert after == before


def test_labels_that_others_changed_are_kept(place, monkeypatch, tmp_path, capsys):
    """A folder of labels without the mark, and one with a file of another program."""
    monkeypatch.chdir(place)
    store, anchor = Store(place / "store"), toy_anchor()
    labels = place / "store" / "labels" / anchor.fingerprint[:12]
    assert run("label --store store --anchor gmm.npz --top-k 2", place) == 0
    theirs = put(labels, ["notes"])
    assert run("label --store store --anchor gmm.npz --top-k 3", place) == 1
    assert "holds notes, which jepa-speech did not write" in capsys.readouterr().err
    (labels / ownership.MARK).unlink()
    with pytest.raises(UserError, match="these labels lack jepa-speech's mark"):
        LabelParts(store, anchor, 8, 3)
    assert {path: path.read_bytes() for path in theirs} == theirs


def test_pictures_and_reports_replace_only_their_own(tmp_path):
    for name in ("a", "b"):
        report.save_figures(tmp_path / "ours", {"losses": Figure()})
        report.write(tmp_path / "ours" / "report.html", name, [])
    theirs = put(tmp_path / "theirs", ["losses.png", "report.html"])
    with pytest.raises(
        UserError, match=r"losses.png exists and lacks the mark of this command: another program or an earlier version"
    ):
        report.save_figures(tmp_path / "theirs", {"losses": Figure()})
    with pytest.raises(UserError, match=r"report.html exists"):
        report.write(tmp_path / "theirs" / "report.html", "title", [])
    assert {path: path.read_bytes() for path in theirs} == theirs
