"""Refuse URLs where a local path is needed, and recognise those of buckets where these can be used.

`Path("gs://bucket/a")` is the relative path `gs:/bucket/a`. Without a check, a command would write to a local folder
called `gs:`. A local path that looks like a URL can be written `./gs:/a`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from jepa_speech.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
GOOGLE = "name a local path and copy with `gcloud storage cp --recursive`, or mount the bucket with gcsfuse"
AMAZON = "name a local path and copy with `aws s3 cp --recursive`"
STORAGE = "name a local path and copy, or mount the storage"
WEB = "download it first"
# What to do instead, by the URL's scheme; WEB for others.
FIXES = {
    **dict.fromkeys(("gs", "gcs"), GOOGLE),
    **dict.fromkeys(("s3", "s3a"), AMAZON),
    **dict.fromkeys(("az", "abfs", "abfss", "hdfs"), STORAGE),
    **dict.fromkeys(("http", "https", "ftp"), WEB),
    "hf": "download it first with `hf download`",
    "file": "write the path without file://",
}
# A URL at the beginning of a text or of a part of it, as in FILE:VARIANT or PATH:WEIGHT,"PATH". After the schemes
# above, one slash is enough: that is what `Path` leaves.
URL = re.compile(rf'(?<![^\s,:"])(?:({"|".join(FIXES)}):/|[a-z][a-z0-9+.-]+://)[^,"]*', re.IGNORECASE)
# A folder in a bucket; of `Path("gs://bucket/a")` one slash is left.
BUCKET = re.compile(r"(gs|s3):/{1,2}([^/].*)", re.IGNORECASE)


def bucket_url(text: str) -> str:
    """Returns the URL of a folder in a bucket, gs://... or s3://..., or "" for another text."""
    found = BUCKET.fullmatch(text)
    return f"{found[1].lower()}://{found[2].rstrip('/')}" if found else ""


def not_local(text: str, buckets: bool = False) -> str:
    """Returns what is wrong with a text that holds a URL in place of a local path, and what to do; "" if none is.

    buckets: whether gs:// and s3:// can be used in this place.
    """
    for found in URL.finditer(text):
        if buckets and found[1] and found[1].lower() in ("gs", "s3") and not bucket_url(found[0]):
            return f"{found[0]} names no bucket: write {found[1].lower()}://BUCKET/FOLDER"
        if not (buckets and bucket_url(found[0])):
            return f"{found[0]} is not a local path: {FIXES[found[1].lower()] if found[1] else WEB}"
    return ""


def local_path(text: str) -> str:
    """For argparse, of every option that is a local path: the text. Raises UsageError if it is a URL."""
    if wrong := not_local(text):
        raise UsageError(wrong)
    return text


def path_or_bucket(text: str) -> str:
    """For argparse, of an option that is a local path or in a bucket: the text. Raises UsageError for other URLs."""
    if wrong := not_local(text, buckets=True):
        raise UsageError(wrong)
    return text


def takes_local_paths(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function of the Python API that raises UsageError, before it does anything, if an argument is a URL."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_urls(arguments_of(function, args, kwargs))
        return function(*args, **kwargs)

    return checked


def arguments_of(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by their names."""
    return dict(zip(signature(function).parameters, args, strict=False)) | dict(kwargs)


def refuse_urls(given: Mapping[str, Any], buckets: Sequence[str] = ()) -> None:
    """Raises UsageError, naming the argument, if one is a URL. buckets: arguments that may be gs:// or s3://."""
    for name, value in given.items():
        if name != "overrides":  # `load_config` checks these, and names the key
            for text in texts(value):
                if wrong := not_local(text, name in buckets):
                    raise UsageError(f"{name}: {wrong}")


def texts(value: Any) -> Iterator[str]:
    """Yields the texts and paths in an argument: itself, the items of a list, the keys of a mapping."""
    if isinstance(value, (str, os.PathLike)):
        yield os.fspath(value)
    elif isinstance(value, (Mapping, Sequence)):
        for item in value:
            yield from texts(item)
