"""Objects under a URL of a bucket, read by `obstore` (the extra `[cloud]`).

Credentials are those that obstore finds in the environment, in the files of Google's tools, or from the machine. They
are never printed: messages leave out what the server wrote.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from isal.isal_zlib import crc32

from jepa_speech.cloud.waiting import waiting_for
from jepa_speech.errors import UsageError, UserError

CHUNK = 1 << 20  # bytes read at a time, at least
PART = 64 << 20  # bytes from which an object is uploaded in several parts
TRIES = 3
ONE_REQUEST = 12.0  # seconds until a request is given up, its repetitions included, and until a silent response is
CREDENTIALS = {
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "s3": 'set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, for example by `eval "$(aws configure '
    'export-credentials --format env)"`',
}
# Environment variables that name another server than Google's or Amazon's.
ENDPOINTS = ("GOOGLE_BASE_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
# In the errors of a machine without credentials, which asks the servers of its cloud for some.
NO_CREDENTIALS = ("computeMetadata", "/latest/api/token", "169.254.", "token request")
# In errors of the files and environment variables that hold credentials. These errors may quote them.
WRONG_CREDENTIALS = ("credential", "service account", "pem file", "private key")
NO_BUCKET = ("NoSuchBucket", "bucket does not exist")  # in the body of a response
DENIED = ("401", "403")
STATUS = re.compile(r"status code: \d+[A-Za-z ]*")
ODD_NAME = re.compile(r'invalid path: Path (".*?")')


class Missing(UserError):
    """There is no such object."""


class Unreachable(UserError):
    """The bucket did not answer, or refused. Says nothing of the object."""


class NoBucket(Unreachable):
    """There is no such bucket."""


class Changed(UserError):
    """The object is another one than was expected."""


class Exists(UserError):
    """There is such an object already."""


class Found(NamedTuple):
    """Size in bytes of an object, and when it was written (Unix time in whole seconds)."""

    size: int
    written: int


class Objects:
    """The objects whose names begin with `url` and a slash. Threads may share it; a pickled one connects anew.

    url: gs://BUCKET/PATH or s3://BUCKET/PATH. Raises UsageError if obstore is not installed, or for a path with `..`.
    Methods raise UserError, naming the object, if it cannot be read, and Missing if there is none.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.scheme, _, rest = self.url.partition("://")
        self.bucket, _, self.folder = rest.partition("/")
        if not {"", ".", ".."}.isdisjoint(rest.split("/")):
            raise UsageError(f"{url}: not the URL of a folder in a bucket; write {self.scheme}://BUCKET/FOLDER")
        self._bucket_checked = False
        _obstore()

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Objects, (self.url,)

    def read(self, name: str) -> bytes:
        """Returns the bytes of a small object."""
        with self._asking(name):
            return bytes(self._store.get(name).bytes())

    def download(
        self,
        name: str,
        file: BinaryIO,
        size: int,
        go_on: Callable[[], bool] = lambda: True,
        written: int | None = None,
    ) -> int | None:
        """Writes an object of `size` bytes into a file, from its beginning, and returns the CRC-32 of its bytes.

        written: when it must have been written. Raises Changed if size or time are others.
        After a broken response, it is read again from the beginning, up to TRIES times. Returns None once `go_on`,
        which is called between chunks, returns False.
        """
        for left in reversed(range(TRIES)):
            with self._asking(name):
                response = self._store.get(name)
            found = _found(response.meta)
            if found.size != size:
                raise Changed(f"{self.url}/{name}: has {found.size} bytes, not the {size} that were written")
            if written not in (None, found.written):
                raise Changed(f"{self.url}/{name}: was written again")
            try:
                with self._asking(name):
                    return self._written(name, response, file, go_on)
            except UserError as error:
                if not left:
                    raise
                print(f"{error}; reading it again", file=sys.stderr)
        raise AssertionError("the last try returns or raises")

    def _written(self, name: str, response: Any, file: BinaryIO, go_on: Callable[[], bool]) -> int | None:
        crc = done = 0
        file.seek(0)
        for chunk in response.stream(min_chunk_size=CHUNK):
            if not go_on():
                return None
            file.write(chunk)
            done, crc = done + len(chunk), crc32(chunk, crc)
        if done != response.meta["size"]:
            raise UserError(f"{self.url}/{name}: the response ended after {done} of {response.meta['size']} bytes")
        file.flush()
        return crc

    def find(self, name: str) -> Found | None:
        """Returns size and time of an object, None if there is none."""
        try:
            with self._asking(name):
                return _found(self._store.head(name))
        except Missing:
            self._check_bucket()  # this response has no body to say that the bucket is missing
            return None

    def upload(self, name: str, path: Path) -> None:
        """Writes a file to an object, which appears once it is whole."""
        with self._asking(name, "written"):
            self._store.put(name, path, use_multipart=path.stat().st_size > PART)

    def create(self, name: str, data: bytes) -> bool:
        """Writes an object unless there is one of this name; returns whether it did."""
        try:
            with self._asking(name, "written"):
                self._store.put(name, data, mode="create")
        except Exists:
            return False
        return True

    def remove(self, name: str) -> None:
        """Removes an object."""
        with self._asking(name, "written"):
            self._store.delete(name)

    def list(self, folder: str) -> dict[str, Found]:
        """Returns the objects in a folder, "" for all, and in those below it, by name from `url` on.

        Consoles and gcsfuse write an object NAME/ for each folder, which is left out if the folder holds others.
        """
        with self._asking(folder):
            found = {meta["path"]: _found(meta) for page in self._store.list(folder or None) for meta in page}
        folders = {"", *(str(parent) for name in found for parent in PurePosixPath(name).parents)}
        return {name: about for name, about in found.items() if name not in folders}

    def names(self) -> dict[str, Found]:
        """Returns the objects directly in the folder, by name."""
        with self._asking(""):
            found = self._store.list_with_delimiter()["objects"]
        return {meta["path"]: _found(meta) for meta in found if meta["path"]}

    @cached_property
    def _store(self) -> Any:
        store = _obstore().store
        client: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=ONE_REQUEST),
            "timeout": timedelta(days=1),  # of a whole response: a large shard may take long
        }
        if any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS):  # TLS is needed but for these
            client["allow_http"] = True
        retry = {"max_retries": 5, "retry_timeout": timedelta(seconds=ONE_REQUEST)}
        kind = {"gs": store.GCSStore, "s3": store.S3Store}[self.scheme]
        return kind(self.bucket, prefix=self.folder or None, client_options=client, retry_config=retry)

    @contextmanager
    def _asking(self, name: str, done: str = "read") -> Iterator[None]:
        """Turns obstore's errors into one line, and says on stderr if a request takes long.

        done: what is done to the object, "read" or "written".
        """
        where = f"{self.url}/{name}".rstrip("/")
        try:
            with waiting_for(where):
                yield
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise Missing(f"{where}: no such object") from error
        except _obstore().exceptions.AlreadyExistsError as error:
            raise Exists(f"{where}: exists") from error
        except _obstore().exceptions.BaseError as error:
            self._refuse_missing_bucket(error)
            raise Unreachable(f"{where}: {self._reason(error, done)}") from error

    def _refuse_missing_bucket(self, error: Exception) -> None:
        if any(words in str(error) for words in NO_BUCKET):
            raise NoBucket(f"{self.scheme}://{self.bucket}: no such bucket; check its name") from error

    def _check_bucket(self) -> None:
        """Raises NoBucket if the bucket is missing, once. Credentials may read objects without listing them."""
        if not self._bucket_checked:
            try:
                with self._asking(""):
                    next(iter(self._store.list(chunk_size=1)), None)
            except NoBucket:
                raise
            except UserError:
                pass
            self._bucket_checked = True

    def _reason(self, error: Exception, done: str) -> str:
        text = str(error).partition("\n")[0]
        named = type(error).__name__
        if any(asked in text for asked in NO_CREDENTIALS):
            return f"no credentials were found; {CREDENTIALS[self.scheme]}"
        if any(words in text.rpartition(" - ")[2].lower() for words in WRONG_CREDENTIALS):
            return f"the credentials of this machine cannot be used; {CREDENTIALS[self.scheme]}"
        if "Received redirect" in text:
            return "the bucket is in another region; set AWS_REGION to its region"
        status = STATUS.search(text)
        denied = status is not None and any(code in status[0] for code in DENIED)
        if denied or named in ("PermissionDeniedError", "UnauthenticatedError"):
            return f"cannot be {done}, refused with the credentials of this machine; {CREDENTIALS[self.scheme]}"
        if status:
            return f"cannot be {done} ({status[0].strip()}); try again later"
        if found := ODD_NAME.search(text):
            return f"obstore cannot name the object {found[1]} in this bucket; rename or remove it"
        return f"cannot be {done} ({text.rpartition(' - ')[2][:200]}); check the network, and the name of the bucket"


def _found(meta: Any) -> Found:
    return Found(meta["size"], int(meta["last_modified"].timestamp()))


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UsageError("gs:// and s3:// need obstore: pip install obstore") from error
    return obstore
