"""No place takes a URL for a local path: not an option, a config key, an argument of the Python API or a manifest.

Options of type `path_or_bucket`, the arguments of the same names, and the keys IN_BUCKETS take the URL of a bucket.
"""

import argparse
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from support.parsers import commands

import jepa_speech
from jepa_speech import cli
from jepa_speech.errors import UsageError, UserError
from jepa_speech.ingest.manifest import entries
from jepa_speech.local_paths import FIXES, bucket_url, local_path, not_local, path_or_bucket
from jepa_speech.objectives import parsed
from jepa_speech.settings.run_config import flat, plain
from jepa_speech.training.configfile import IN_BUCKETS, load_config

COMMANDS = dict(commands(cli.parser()))
URLS = ("gs://bucket/a", "gs:/bucket/a", "s3://bucket/a")
ELSEWHERE = "az://bucket/a"  # what no place takes
# Options whose text is no path.
OTHERS = {
    *("name", "tasks", "adapter", "features"),
    *("time", "partition", "account", "zone", "type", "version", "project", "mount"),  # of `launch`
    *("image", "accelerator", "topology", "claim"),
}
PATH_WORDS = re.compile(r"\b(DIR|FILE|PATH|RUN|STORE|ROOT|INPUT|AUDIO|MANIFEST)\b|\.(npz|jsonl|arpa|json)\b")
CONFIG_PATHS = ("data.store", "data.heldout", "data.probe", "anchor.path", "init_from")


def options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options of a command that take a text."""
    return [one for one in command._actions if one.nargs != 0 and one.choices is None]


def lines_with(url: str, kind: Callable[[str], str] = local_path) -> dict[str, list[str]]:
    """A command line for every option of every verb that is a path, with this URL. kind: what argparse calls."""
    found = {}
    for name, command in COMMANDS.items():
        before: list[str] = []  # positional arguments before this one
        for option in options(command):
            if option.type is kind:
                given = [option.option_strings[0], url] if option.option_strings else [*before, url]
                found[f"{name} {option.dest}"] = [*name.split(), *given]
            before += [] if option.option_strings else ["x"]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_is_a_path_is_declared_as_one(name):
    for option in options(COMMANDS[name]):
        if option.type is None:
            assert option.dest in OTHERS, f"{option.dest}: add type=local_path if it is a path, or else to OTHERS"
        if option.type not in (local_path, path_or_bucket):
            assert not PATH_WORDS.search(str(option.metavar)), option.dest


@pytest.mark.parametrize("url", URLS)
def test_every_verb_refuses_it_in_one_line_and_writes_nothing(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = lines_with(url)
    assert {"train config", "prepare json", "probe like", "launch tpu config", "compare out"} <= lines.keys()
    for line in lines.values():
        assert cli.main(line) == UsageError.exit_code
        shown = capsys.readouterr()
        assert shown.err == f"jepa-speech {line[0]}: {not_local(url)}\n" and not shown.out
    assert not list(tmp_path.iterdir())


def test_some_options_take_a_bucket_and_no_other_url(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = lines_with(ELSEWHERE, path_or_bucket)
    assert {
        "export hf out",
        "label store",
        "probe checkpoint",
        "train workdir",
        "embed audio",
        "launch tpu workdir",
    } <= lines.keys()
    for line in lines.values():
        assert cli.main(line) == UsageError.exit_code
        assert capsys.readouterr().err == f"jepa-speech {line[0]}: {not_local(ELSEWHERE)}\n"
    for url in URLS:
        assert path_or_bucket(url) == url
    assert not list(tmp_path.iterdir())


def test_the_url_of_a_bucket():
    for text in ("gs://b/x", "gs:/b/x", "GS://b/x/"):
        assert bucket_url(text) == "gs://b/x"
    for text in ("gs://", "gs:///b", "az://b/x", "./gs://b/x", "a,gs://b/x", "x"):
        assert bucket_url(text) == ""


def test_the_line_says_what_to_do():
    assert not_local("gs://bucket/a") == (
        "gs://bucket/a is not a local path: name a local path and copy with `gcloud storage cp --recursive`, or mount "
        "the bucket with gcsfuse"
    )


@pytest.mark.parametrize("scheme", FIXES)
def test_a_url_is_found_wherever_a_path_can_be(scheme):
    for text in ("{}", "configs/finetune_ctc.py:{}", "a:1,{}", "a:1, {}", '"{}":1', "{}:phones,speaker"):
        for url in (f"{scheme}://b/x", f"{scheme}:/b/x", f"{scheme.upper()}://b/x"):
            assert not_local(text.format(url)).startswith(url), text


@pytest.mark.parametrize("text", ["oss://b/x", "a:1,sftp+ssh://b/x:0.5", '"S3N://b/x"'])
def test_any_scheme_with_two_slashes_is_a_url(text):
    assert "is not a local path: download it first" in not_local(text)


@pytest.mark.parametrize(
    "path", ["a:b/c", "gs", "gs:b", "./gs:/b", "logs:/b", "/data/s3:/b", "smoke:hubert", "a.npz:1,b.npz:0.5", ""]
)
def test_a_local_path_with_a_colon_is_none(path):
    assert local_path(path) == path


def path_arguments() -> list[tuple[str, str]]:
    """The arguments of the Python API that are paths."""
    return [
        (name, argument)
        for name in jepa_speech.__all__
        for argument, kind in get_type_hints(inspect.unwrap(getattr(jepa_speech, name))).items()
        if argument != "return" and "Path" in str(kind)
    ]


@pytest.mark.parametrize("name,argument", path_arguments())
def test_every_function_of_the_api_refuses_it(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    schemes = ("az",) if takes_buckets(name, argument) else ("az", "gs")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir("empty")
    function = getattr(jepa_speech, name)
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    for scheme in schemes:
        url = f"{scheme}://bucket/a"
        for wrong in (url, Path(url), ["x", url], {url: ["phones"]}):
            with pytest.raises(UsageError, match=rf"^{argument}: {scheme}:/+bucket/a is not a local path"):
                function(**(dict.fromkeys(required, "x") | {argument: wrong}))
    assert not list(Path().iterdir())


def test_verbs_and_functions_take_buckets_in_the_same_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    for name, command in COMMANDS.items():
        function = name.replace(" ", "_")
        for option in options(command):
            if (function, option.dest) in path_arguments():
                found[name, option.dest] = option.type is path_or_bucket
                assert found[name, option.dest] == takes_buckets(function, option.dest), (name, option.dest)
    assert len(found) > 30 and {True, False} == set(found.values())


def takes_buckets(name: str, argument: str) -> bool:
    """Whether this URL is refused for another reason than being one."""
    function = getattr(jepa_speech, name)
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    try:
        function(**(dict.fromkeys(required, "x") | {argument: "s3://bucket/../a"}))
    except (UserError, FileNotFoundError, TypeError) as error:
        return "is not a local path" not in str(error)
    raise AssertionError("nothing was refused")


def test_arguments_by_position_are_checked_too():
    with pytest.raises(UsageError, match=r"^out: az://b/store"):
        jepa_speech.prepare("x", "az://b/store")


def test_every_text_of_a_config_is_checked():
    texts = [key for key, value in flat(plain(load_config("smoke"))) if isinstance(value, str)]
    assert set(CONFIG_PATHS) <= set(texts)
    for key in texts:
        with pytest.raises(UsageError, match=rf"^config key {re.escape(key)}( =|:) "):
            load_config("smoke", {key: ELSEWHERE if key in IN_BUCKETS else "gs://bucket/a"})


@pytest.mark.parametrize("key", IN_BUCKETS)
@pytest.mark.parametrize("value", ["gs://b/a", "s3://b/a:1,c:0.5", '"s3://b/a":1,gs://b/c:2'])
def test_some_keys_take_buckets(key, value):
    assert dict(flat(plain(load_config("smoke", {key: value}))))[key] == value
    with pytest.raises(UsageError, match="az://b/d:1 is not a local path"):
        load_config("smoke", {key: f"{value},az://b/d:1"})


def test_a_config_that_is_changed_in_python_is_checked_too():
    config = load_config("smoke")
    config = replace(config, data=replace(config.data, store="hf://b/a"))
    for function, arguments in (
        (jepa_speech.train, {"workdir": "run"}),
        (jepa_speech.plan, {"hours": 1, "devices": 1}),
        (jepa_speech.bench_step, {}),
    ):
        with pytest.raises(UsageError, match=r"^config key data\.store: hf://b/a is not"):
            function(config, **arguments)


def test_the_config_of_a_run_that_names_one_is_still_read():
    """Before URLs were refused, a store of this name was a local folder."""
    written = plain(load_config("smoke"))
    written["data"]["store"] = "gs:/bucket/a"
    assert parsed(written).data.store == "gs:/bucket/a"


@pytest.mark.parametrize("key", [key for key in CONFIG_PATHS if key not in IN_BUCKETS])
@pytest.mark.parametrize("value", ["gs://bucket/a", "a:1,gs:/bucket/b:0.5", '"s3://bucket/a":1'])
def test_a_path_in_a_config_is_refused_by_its_key(key, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--config", "smoke", "--workdir", "run", f"--config.{key}={value}"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"jepa-speech train: config key {key}: (gs|s3):/+bucket/.* is not a local path: .*\n", said)
    assert not list(tmp_path.iterdir())


MANIFESTS = {
    "nemo.jsonl": '{"audio_filepath": "gs://bucket/a.wav", "duration": 1.0}\n',
    "table.csv": "path,text\ngs:/bucket/a.wav,x\n",
    "fairseq.tsv": "/\ngs://bucket/a.wav\t16000\n",
    "kaldi/wav.scp": "a gs://bucket/a.wav\n",
    "other.csv": "path,text\noss://bucket/a.wav,x\n",
    "lhotse.jsonl": '{"id": "x", "sources": [{"type": "url", "source": "gs://bucket/a.wav", "channels": [0]}], '
    '"sampling_rate": 16000, "num_samples": 16000, "duration": 1.0, "channel_ids": [0]}\n',
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_url_in_a_manifest_is_named_in_the_reject(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(MANIFESTS[name])
    (entry,) = entries([path.parent if name == "kaldi/wav.scp" else path])
    assert re.search("(gs|oss):/+bucket/a.wav", f"{entry.source} {entry.detail}")
    in_bucket = "gs://" in MANIFESTS[name]  # --root may allow it
    assert entry.reason == ("outside_root" if in_bucket else "refused")


def test_a_url_as_the_root_of_a_tsv_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("az://bucket\na.wav\t16000\n")
    with pytest.raises(UserError, match=r"a\.tsv:1: its root line: az://bucket is not a local path"):
        list(entries([tmp_path / "a.tsv"]))


def test_a_file_in_a_local_folder_called_like_a_scheme_is_read(tmp_path):
    (tmp_path / "gs:" / "b").mkdir(parents=True)
    (tmp_path / "gs:" / "b" / "a.wav").write_bytes(b"RIFF")
    assert [entry.reason for entry in entries([tmp_path])] == [""]


@pytest.mark.parametrize(("url", "said"), [("s3://", "write s3://BUCKET/FOLDER"), ("s3://bucket", "name a folder")])
def test_a_url_without_bucket_or_folder_is_wrong_usage(url, said, capsys):
    assert cli.main(["prepare", "--input", url, "--out", "store"]) == 2
    assert said in capsys.readouterr().err
