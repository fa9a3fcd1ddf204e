"""Arguments of the Python API that may be URLs of buckets."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from jepa_speech.cloud.cache import place
from jepa_speech.errors import UserError
from jepa_speech.local_paths import arguments_of, bucket_url, refuse_urls, texts

P = ParamSpec("P")
R = TypeVar("R")
# The beginnings of paths below the cache, up to where the rest is that of the URL: of copies by kind, of a store in one
# state, and of a tar or parquet file in one state. Names may hold spaces, so no pattern says where a path ends.
IN_CACHE = (
    r"[a-z]+/(?P<kind>gs|s3)/"
    r"|(?P<store>gs|s3)/([^/\n]+/)@[0-9a-f]{12}/"
    r"|(?P<file>gs|s3)/([^\n]*?)@\d+-\d+/shards/"
)
# Called with a URL and all arguments by name: yields the local path that the function gets in place of the URL.
Copy = Callable[[str, Mapping[str, Any]], AbstractContextManager[Path]]


def takes_buckets(*arguments: str, **copies: Copy) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Like `takes_local_paths`, but the arguments of these names may be gs:// or s3://.

    copies: of an argument that the function gets as a local path; it may also be a list of paths. Results and messages
    of errors name the URLs instead of the files in the cache.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given = arguments_of(function, args, kwargs)
            refuse_urls(given, (*arguments, *copies))
            signature(function).bind(*args, **kwargs)  # raises TypeError, as a call does
            try:
                with ExitStack() as opened:
                    for name, copy in copies.items():
                        if any(map(bucket_url, texts(given.get(name)))):
                            given[name] = _copied(given[name], copy, given, opened)
                    found = function(**given)  # type: ignore[call-arg]
            except UserError as error:
                if (text := with_urls(str(error))) == str(error):
                    raise
                raise type(error)(text, with_urls(error.results)) from error
            return cast(R, with_urls(found))

        return checked

    return decorated


def with_urls(value: Any) -> Any:
    """Returns a text, or texts in lists and dicts, with the paths of files in the cache replaced by their URLs."""
    if isinstance(value, str):
        return re.sub(f"{re.escape(str(place()))}/(?:{IN_CACHE})", _url, value)
    if isinstance(value, list):
        return [with_urls(item) for item in value]
    if isinstance(value, dict):
        return {with_urls(key): with_urls(item) for key, item in value.items()}
    return value


def _url(found: re.Match[str]) -> str:
    return f"{found['kind'] or found['store'] or found['file']}://{found[3] or found[5] or ''}"


def _copied(value: Any, copy: Copy, given: Mapping[str, Any], opened: ExitStack) -> Any:
    if isinstance(value, (str, os.PathLike)):
        url = bucket_url(os.fspath(value))
        return opened.enter_context(copy(url, given)) if url else value
    if isinstance(value, Mapping):  # such as results in place of their file
        return value
    return [_copied(item, copy, given, opened) for item in value]
