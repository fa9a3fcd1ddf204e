"""Every command of README and docs runs at toy size, in the order of its page, or is listed here with the reason."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from support import tone_language
from support.audio_files import write_tones
from support.exported_runs import ctc_config, ctc_run, small_config
from support.input_writers import jsonl, lhotse_cut
from support.labelled_corpus import write_spoken
from test_docs import ROOT, commands

from jepa_speech.cli import main
from jepa_speech.files import read_jsonl

# Pages whose commands are run elsewhere.
ELSEWHERE = {
    "README.md": "test_docs_run.py",  # they make the `world` of the other pages
    "probing.md": "cli/test_probe.py",
    "reading-curves.md": "cli/test_analyze.py",
}
# Commands that are not run here, and why. test_docs.py parses each of them and loads its config.
NOT_RUN = {
    r"train .*(--config\.(mesh|init_from)|hubert2|two|mixed|scratch|adapter|loggers|=stores/asr$)": "one more training",
    r"train .*--config\.train\.probe_every": "cli/test_heldout.py trains with probes between the steps",
    r"train .*--from-step": "test_older_folders.py goes back to a checkpoint of a run",
    r"compare ": "cli/test_compare.py runs one of toy size",
    r"--adapter spa": "huggingface/test_weights.py reads an adapter of a language",
    r"--lm words.arpa": "cli/test_finetune.py decodes with a language model",
    r"export onnx": "parity/test_export.py, where torch is installed",
    r"bench step .*--autotune": "costs/test_autotune.py; minutes for a published size on a CPU",
    r"gs://": "cloud/test_train_from_bucket.py trains from a bucket; the tests beside it fit and label there",
    r"--cluster tcp://": "cli/test_cluster_option.py starts a scheduler",
    r"jepa-speech plan ": "cli/test_plan.py; tracing a published size takes as long as all of a page",
    r"jepa-speech (analyze|probe) ": "cli/test_analyze.py and cli/test_probe.py run those of their pages",
    r"evaluate .*HELDOUT": "the page says that this store needs its labels first; training.md evaluates",
    r"transcribe .*--step best": "cli/test_step_option.py, on a run that has held-out losses",
}
SHORT = "--config.train.steps=2 --config.data.buckets=1.0"  # one program to compile
FEW = "--config.data.batch_seconds=4"
# What makes a toy of a command: patterns, and what replaces them.
TOY = [
    (r"/path/to/held-out/manifest.jsonl|/path/to/common-voice/test.tsv", "transcribed/manifest.jsonl"),
    (r"/path/to/(transcribed|held-out)", "transcribed"),
    (r"/path/to/", ""),
    (r"--root /corpora", "--root ."),
    (r"--config (configs/(smoke|gmm_jepa).py|smoke) --workdir", f"--config configs/tiny.py {SHORT} --workdir"),
    (r"--config configs/hubert.py --workdir", f"--config configs/tiny.py:hubert {SHORT} --workdir"),
    (r"--config configs/finetune_ctc.py:RUN", f"--config configs/finetune_ctc.py:RUN {SHORT} {FEW}"),
    (r"bench step --config configs/smoke.py:hubert", "bench step --config configs/tiny.py:hubert --steps 1 --warmup 0"),
    (r"--components \d+", "--components 8"),
    (r"--perplexity 4", "--perplexity 2"),
    (r"^(\S+ label .*?)( --top-k 64)?$", r"\1 --top-k 4"),
    (r"(\S+ label .*km2?.npz|\S+ label .*(mfcc|layer6).npz.*) --top-k 4", r"\1"),
    (r"layer:[69]|--layer 3", lambda found: found[0][:-1] + "1"),
    (r"--curve .*", "--components 8 --curve 0.001 0.002"),
    (r"--step 400", "--step 2"),
    (r"--(shard|part) \d+/\d+", r"--\1 0/1"),
    (r"bench data (.*)--workers [\d ]+(--seconds 10)?", r"bench data \1--workers 0 --seconds 0.1 "),
    (r"--workers 8", "--workers 1"),
]
PAGES = dict.fromkeys(page for page, _ in commands("jepa-speech") if page.endswith(".md"))


def toy(line: str) -> list[str]:
    for pattern, instead in TOY:
        line = re.sub(pattern, instead, line)
    return shlex.split(line)[1:]


def toys_of(page: str) -> list[list[str]]:
    lines = [re.sub(r" \[--[^\]]*\]", "", line) for name, line in commands("jepa-speech") if name == page]
    return [toy(line) for line in lines if not any(re.search(pattern, line) for pattern in NOT_RUN)]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """What README's commands make, and what else the pages take as given: manifests, a folder of transformers."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "configs").symlink_to(ROOT / "configs")
        tones = write_tones(folder / "recordings", 8, 1.0)
        shutil.copytree("recordings", "more")
        jsonl(folder / "train.jsonl", [{"audio_path": f"recordings/{path.name}"} for path in tones])
        (folder / "kaldi/train").mkdir(parents=True)
        (folder / "kaldi/train/wav.scp").write_text("".join(f"{path.stem} recordings/{path.name}\n" for path in tones))
        jsonl(
            folder / "cuts.jsonl.gz",
            [lhotse_cut({"name": "a", "text": "", "speaker": ""}, f"recordings/{tones[0].name}", 0.0, 1.0)],
        )
        for name in ("a.flac", "b.flac", "b.wav"):
            shutil.copy(tones[0], name)  # libsndfile looks at the contents
        manifest = tone_language.melodies(folder / "transcribed", 6)
        texts = [f"{row['audio_path']},{row['text']}\n" for row in read_jsonl(manifest)]
        (folder / "transcribed/metadata.csv").write_text("file_name,text\n" + "".join(texts))
        write_spoken(folder / "LABELLED")
        for words in toys_of("README.md"):  # stores/mine, stores/mine.npz and runs/mine
            assert main(words) == 0
        assert main(["prepare", "--input", "transcribed", "--out", "stores/asr", "--workers", "1"]) == 0
        ctc_run(folder / "runs/asr", ctc_config(small_config("wav2vec2"), characters=" abc"))
        assert main(["export", "hf", "runs/asr", "--out", "DIR"]) == 0
        for name in ("GMM.npz", "gmm.npz"):
            shutil.copy("stores/mine.npz", name)
        for name in ("STORE", "stores/a", "stores/b", "stores/train", "HELDOUT", "heldout"):
            shutil.copytree("stores/mine", name)
        for name in ("RUN", "runs/smoke", "runs/hubert1"):
            shutil.copytree("runs/mine", name)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_commands_of_a_page_run(page, world, tmp_path, monkeypatch, capsys):
    here = tmp_path / "here"
    shutil.copytree(world, here, symlinks=True)
    monkeypatch.chdir(here)
    for words in toys_of(page):  # each writes something new
        if found := {"--out", "--workdir"} & set(words):
            shutil.rmtree(words[words.index(found.pop()) + 1], ignore_errors=True)
        assert main(words) == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"


def test_what_is_not_run_is_there():
    lines = [line for _, line in commands("jepa-speech")]
    assert all(any(re.search(pattern, line) for line in lines) for pattern in NOT_RUN)
    for page, test in ELSEWHERE.items():
        assert page in PAGES and page in (Path(__file__).parent / test).read_text(encoding="utf-8")
