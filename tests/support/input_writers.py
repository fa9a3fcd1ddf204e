"""The same recordings written as every kind of input that is read."""

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import soundfile


def jsonl(path: Path, rows: list[dict]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def copied(folder: Path, clips: list[dict]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(row["file"], folder)) for row in clips]


def joined(folder: Path, clips: list[dict]) -> tuple[Path, list[tuple[float, float]]]:
    """All recordings one after the other in one WAV, and where each begins and ends (s)."""
    waves = [soundfile.read(row["file"], dtype="int16")[0] for row in clips]
    soundfile.write(folder / "joined.wav", np.concatenate(waves), 16_000)
    ends = np.cumsum([len(wave) for wave in waves]) / 16_000
    return folder / "joined.wav", list(zip([0.0, *ends[:-1]], ends, strict=True))


def as_folder(folder, clips):
    copied(folder / "in", clips)
    return folder / "in"


def as_librispeech(folder, clips):
    for row in clips:
        speaker, chapter, _ = row["name"].split("-")
        copied(folder / "in" / speaker / chapter, [row])
        with (folder / "in" / speaker / chapter / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{row['name']} {row['text']}\n")
    return folder / "in"


def as_released_jsonl(folder, clips):
    copied(folder / "audio", clips)
    keys = ["audio_path", "wav_path"] * len(clips)
    rows = [{key: f"audio/{row['name']}.flac", "text": row["text"]} for key, row in zip(keys, clips, strict=False)]
    return jsonl(folder / "m.jsonl", rows)


def as_nemo(folder, clips):
    _, times = joined(folder, clips)
    return jsonl(
        folder / "m.json",
        [
            {"audio_filepath": "joined.wav", "offset": start, "duration": end - start, "text": row["text"]}
            for row, (start, end) in zip(clips, times, strict=True)
        ],
    )


def lhotse_cut(row, path, start, seconds, **more):
    source = {"type": "file", "channels": [0], "source": str(path)}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16_000, "num_samples": 1, "duration": 99.0}
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": seconds, "channel": 0, "text": row["text"]}
    cut = {"id": row["name"], "start": start, "duration": seconds, "channel": 0, "type": "MonoCut"}
    return cut | {"supervisions": [said | {"speaker": row["speaker"]}], "recording": recording} | more


def as_lhotse_cuts(folder, clips):
    copied(folder / "audio", clips)
    cuts = [lhotse_cut(row, f"audio/{row['name']}.flac", 0.0, round(row["duration"], 2)) for row in clips]
    for cut in cuts[::2]:  # all of a recording, and a stretch that happens to be all of it
        cut["recording"]["duration"] = cut["duration"]
    return jsonl(folder / "cuts.jsonl.gz", cuts)


def as_lhotse_segments(folder, clips):
    _, times = joined(folder, clips)
    cuts = [lhotse_cut(row, "joined.wav", a, b - a) for row, (a, b) in zip(clips, times, strict=True)]
    return jsonl(folder / "cuts.jsonl", cuts)


def as_fairseq(folder, clips, suffix=".wrd"):
    copied(folder / "audio", clips)
    lines = [f"{row['name']}.flac\t{soundfile.info(row['file']).frames}\n" for row in clips]
    (folder / "train.tsv").write_text(f"{folder / 'audio'}\n" + "".join(lines))
    texts = [row["text"] for row in clips]
    if suffix == ".ltr":
        texts = [" ".join(text.replace(" ", "|")) + " |" for text in texts]
    (folder / "train").with_suffix(suffix).write_text("".join(text + "\n" for text in texts))
    return folder / "train.tsv"


def as_fairseq_letters(folder, clips):
    return as_fairseq(folder, clips, ".ltr")


def kaldi(folder, clips):
    (folder / "data").mkdir()
    for name, value in (("text", "text"), ("utt2spk", "speaker")):
        (folder / "data" / name).write_text("".join(f"{row['name']} {row[value]}\n" for row in clips))
    return folder / "data"


def as_kaldi(folder, clips):
    data = kaldi(folder, clips)
    copied(data / "audio", clips)
    (data / "wav.scp").write_text("".join(f"{row['name']}\taudio/{row['name']}.flac\n" for row in clips))
    return data


def as_kaldi_segments(folder, clips):
    data = kaldi(folder, clips)
    path, times = joined(data, clips)
    (data / "wav.scp").write_text(f"rec {path}\n")
    lines = [f"{row['name']} rec {start:.6f} {end:.6f}\n" for row, (start, end) in zip(clips, times, strict=True)]
    (data / "segments").write_text("".join(lines))
    return data


def tar_of(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def as_tar(folder, clips):
    files = {}
    for row in clips:  # the sidecar before or after its recording
        name = "deep/" * 30 + row["name"]  # longer than a plain header holds
        files |= {f"{name}.json": json.dumps({"text": row["text"], "speaker": row["speaker"]}).encode()}
        files |= {f"{name}.flac": row["file"].read_bytes()}
    return tar_of(folder / "x.tar", files)


def as_tar_with_texts(folder, clips):
    files = {}
    for row in clips:
        files |= {f"{row['name']}.flac": row["file"].read_bytes(), f"{row['name']}.txt": row["text"].encode()}
    return tar_of(folder / "x.tar", files)


def as_parquet(folder, clips):
    table = pyarrow.table(
        {
            "audio": [{"bytes": row["file"].read_bytes(), "path": f"{row['name']}.flac"} for row in clips],
            "text": [row["text"] for row in clips],
            "speaker_id": [row["speaker"] for row in clips],
        }
    )
    pyarrow.parquet.write_table(table, folder / "x.parquet", row_group_size=3)
    return folder / "x.parquet"


KINDS = [
    as_folder, as_librispeech, as_released_jsonl, as_nemo, as_lhotse_cuts, as_lhotse_segments, as_fairseq,
    as_fairseq_letters, as_kaldi, as_kaldi_segments, as_tar, as_tar_with_texts, as_parquet,
]  # fmt: skip
