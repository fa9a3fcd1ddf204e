"""The two commands of docs/scale.md that lead from FLAC files in a bucket to a training pod."""

import shlex
from pathlib import Path

import soundfile
from support import pages
from support.audio_files import tone
from support.bucket_servers import BUCKET, upload

from jepa_speech.batches.weighted_stores import open_stores
from jepa_speech.cli import main
from jepa_speech.training.configfile import load_config

ROOT = Path(__file__).parents[2]


def test_the_two_commands(machine, servers, capfd, tmp_path, monkeypatch):
    machine("any", "gs")
    for i in range(3):
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{i % 2}" / f"{i}.flac", tone(0.3, i), 16_000)
    upload("gs", servers["gs"], tmp_path, "recordings")
    lines = [shlex.join(line).replace("my-bucket", BUCKET) for line in pages.commands("scale.md")]
    prepare, launch = (shlex.split(line) for line in lines if "gs://" in line)
    monkeypatch.chdir(ROOT)
    assert main([*prepare, "--check"]) == 0
    assert "3 recordings: 3 good" in capfd.readouterr().out
    assert main([*prepare, "--workers", "1"]) == 0
    capfd.readouterr()

    assert main([*launch, "--dry-run"]) == 0
    commands = [shlex.split(line) for line in capfd.readouterr().out.splitlines()]
    assert [command[4] if command[0] == "gcloud" else command[0] for command in commands] == [
        *("create", "ssh", "git", "scp", "ssh", "ssh", "delete")
    ]
    on_workers = next(word for word in commands[-2] if word.startswith("--command="))
    words = shlex.split(on_workers.removeprefix("--command="))
    config, workdir, *overrides = words[words.index("run") + 1 :]
    assert workdir == f"gs://{BUCKET}/runs/mine"
    found = load_config(config.removeprefix("jepa-speech/"), overrides)
    assert len(open_stores(found.data.store).samples) == 3
    assert not found.anchor.path  # it needs no labels
