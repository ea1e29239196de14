"""ObjectStore on files. Where they are is in layout, what may fail in disk, what a URL promises in signing.

Two orders carry the promises:

* put: make the folder, write, sync, check the deadline, publish, sync the folders. A name leads to whole, durable
  bytes or to nothing. Then remove what dead attempts at the same upload left: the commit takes out the entry that
  answers for it.
* delete_prefix: unpublished files first, then objects. A put that is late (its process slept between the check of
  its deadline and publishing) finds its own file gone and can publish nothing, however long it slept. An anonymous
  file (O_TMPFILE) would leave nothing behind after a crash, but it couldn't be taken away from a late put.
"""
# ruff: noqa: PTH119, PTH208
# (pathlib knows no bytes paths)

import errno
import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from re import Pattern
from typing import BinaryIO, NamedTuple, Self

from adapters.filesystem.contents import SNIFFED_BYTES, FileContent, KnownContents
from adapters.filesystem.disk import FOLDER_FLAGS, Disk, opened
from adapters.filesystem.failures import store_failures
from adapters.filesystem.hot import HotFile, HotFiles
from adapters.filesystem.layout import (
    HASH_NAME,
    IMAGE_NAME,
    IMAGES,
    ImagePlace,
    image_of_prefix,
    place_of_key,
    place_of_prefix,
)
from adapters.filesystem.signing import UrlSigner
from application.content import HashedBytes
from application.ports import ByteRange, Clock, Disposition, ObjectInfo, Permit, SignedUrl, StoredObject
from domain.errors import Conflict, Damaged, NotFound, Unavailable
from domain.image import OBJECT_ROOT, Image, object_prefix
from domain.values import Filename, ImageId, MediaType

_PIECE_BYTES = 256 * 1024
_URLS_KEPT = 4096  # some 3 MB. Finding one takes a tenth of signing it
_CLOSED = -1
_TOO_LONG = "the upload took too long"
# O_NONBLOCK: opening a FIFO that somebody put in an object's place would wait for its writer.
_OBJECT_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ONLY_FROM_MEMORY: int | None = getattr(os, "RWF_NOWAIT", None)  # preadv2(2); Linux alone has it


@dataclass(slots=True)
class FileBody:
    """ObjectBody over an open file: readable until closed, also when its name is gone.

    It reads by the descriptor. A file object costs two more system calls, and most bodies are never read here: the
    server sends them by their path.
    """

    info: ObjectInfo
    path: str | None
    _descriptor: int
    _at: int
    _stop: int
    _hot: HotFile | None = None

    def read(self, size: int = -1, /) -> bytes:
        """See ObjectBody.read."""
        left = self._stop - self._at
        with store_failures():
            data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data

    def read_at_hand(self, size: int, /) -> bytes | bytearray | None:
        """See ObjectBody.read_at_hand."""
        size = min(size, self._stop - self._at)
        if self._hot is not None and (piece := self._hot.piece(self._at, size)) is not None:
            self._at += size
            return piece
        if _ONLY_FROM_MEMORY is None:
            return None
        data = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [data], self._at, _ONLY_FROM_MEMORY)
        except OSError:  # the first page is not in memory, or the file system can't tell
            return None
        if count < len(data):  # a page is not, or the file has become shorter
            return None
        if self._hot is not None:
            self._hot.keep(self._at, data, self._descriptor)
        self._at += count
        return data

    def close(self) -> None:
        """See ObjectBody.close."""
        if self._descriptor != _CLOSED:
            descriptor, self._descriptor = self._descriptor, _CLOSED
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return itself; the block's end closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class _OpenFile(NamedTuple):
    key: str
    path: bytes
    descriptor: int
    status: os.stat_result

    def body(self, media_type: MediaType | None, byte_range: ByteRange | None, hot: HotFile | None = None) -> FileBody:
        info = _info(self.key, self.status, media_type)
        if byte_range is not None:
            return FileBody(info, None, self.descriptor, *byte_range)
        return FileBody(info, os.fsdecode(self.path), self.descriptor, 0, self.status.st_size, hot)


class FilesystemObjects:
    """ObjectStore on the files of one folder, which any number of processes may share.

    Args:
        root: the folder; made if it isn't there.
        clock: tells when deadlines and signed URLs are over.
        public_url: where clients reach the service, for signed URLs.
        secret: signs URLs; 32 bytes or more.
        window_s: to which the times of signatures are rounded.
        hot_bytes: of files that are asked for again and again may stay in memory.
        disk: the file system; tests give others.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        public_url: str,
        secret: bytes,
        window_s: int = 1,
        hot_bytes: int = 0,
        disk: Disk | None = None,
    ) -> None:
        # Resolved: the folder, or one above it, may be a link to another disk.
        self._root = os.fsencode(root.resolve())
        self._clock = clock
        self._signer = UrlSigner(public_url, secret)
        self._window_s = window_s
        self._signed = lru_cache(_URLS_KEPT)(self._sign)
        self._disk = disk or Disk()
        self._contents = KnownContents()
        self._hot = HotFiles(hot_bytes)
        self._durable_slots: set[bytes] = set()
        self._interrupted: set[bytes] = set()  # images with unpublished files when a slot was first looked at
        with store_failures():
            self._disk.make_root(self._root)

    @store_failures()
    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        """See ObjectStore.put."""
        image, path = place_of_key(self._root, target.key)
        self._require_before(deadline, _TOO_LONG)  # nobody would collect the folder of an upload that is over
        try:
            self._ensure_slot(image)
            # Before the file: where nobody has made the folder yet, no other attempt has left a file either. Unless the
            # power failed in between, of which the first look at the slot told, or a deletion slept past its deadline
            # and then removed the folder; that file is the audit's to find.
            is_first = self._disk.ensure_folder(image.folder) and image.image_id not in self._interrupted
            partial = image.new_partial()
            with self._disk.temporary(partial) as descriptor:
                self._receive(descriptor, content, target)
                self._disk.sync(descriptor)
                self._require_before(deadline, _TOO_LONG)
                try:
                    self._publish(partial, path, image)
                except (FileExistsError, FileNotFoundError):
                    # Not found: another put of this object has published, and removed ours as the rest of a dead one.
                    self._require_same(path, target)
                # Both also when the folder or the object was there: whoever made it may have died before its own sync.
                self._disk.sync_folder(image.folder)
                self._disk.sync_folder(image.images)
                self._sync_slot(image)
                if not is_first:
                    self._remove_rests(image, partial, deadline)
        except FileNotFoundError:
            # Should somebody have removed the slot, the next put makes it anew, and syncs it.
            self._durable_slots.discard(image.slot)
            raise

    @store_failures()
    def open(self, key: str, byte_range: ByteRange | None = None, *, sha256: str | None = None) -> FileBody:
        """See ObjectStore.open. With ``sha256`` a file that was not read before, or has changed, is read whole."""
        file = self._found(key)
        try:
            if sha256 is not None:
                return self._checked(
                    file, self._contents.of(file.path, file.descriptor, file.status), sha256, byte_range
                )
            return file.body(MediaType.sniff(os.pread(file.descriptor, SNIFFED_BYTES, 0)), byte_range)
        except BaseException:
            os.close(file.descriptor)
            raise

    @store_failures()
    def open_at_hand(self, key: str, byte_range: ByteRange | None = None, *, sha256: str) -> FileBody | None:
        """See ObjectStore.open_at_hand: a file that was read before, and has not changed since."""
        file = self._found(key)
        try:
            if (content := self._contents.known(file.path, file.status)) is not None:
                return self._checked(file, content, sha256, byte_range)
        except BaseException:
            os.close(file.descriptor)
            raise
        os.close(file.descriptor)
        return None

    def _found(self, key: str) -> _OpenFile:
        path = place_of_key(self._root, key).path
        try:
            return _OpenFile(key, path, *_open_object(path))
        except FileNotFoundError as absence:
            raise NotFound from absence

    def _checked(self, file: _OpenFile, content: FileContent, sha256: str, byte_range: ByteRange | None) -> FileBody:
        if content.sha256.hex() != sha256:
            raise Damaged(f"the bytes of {file.key} are not those that were stored")
        hot = self._hot.ask(file.path, file.status) if byte_range is None else None
        return file.body(content.media_type, byte_range, hot)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        with closing(self.open(key)) as body:
            return body.info

    def signed_url(self, image: Image, *, disposition: Disposition, ttl_s: int) -> SignedUrl:
        """See ObjectStore.signed_url. The expiry is rounded up to the window, for which an image keeps its URL."""
        now_s = self._clock.now().timestamp()
        expires = math.ceil(now_s / self._window_s) * self._window_s + ttl_s
        return self._signed(image.image_id, image.filename, image.sha256, disposition, expires)

    def _sign(
        self, image_id: ImageId, filename: Filename, sha256: str, disposition: Disposition, expires: int
    ) -> SignedUrl:
        url = self._signer.url(object_prefix(image_id) + filename, Permit(sha256, disposition), expires)
        return SignedUrl(url, datetime.fromtimestamp(expires, UTC))

    def permitted(self, method: str, key: str, parameters: Mapping[str, str]) -> Permit | None:
        """Return what is granted, if the parameters were signed for this method and key and still hold.

        Key and parameters are as decoded from the URL. A mapping can't tell that a parameter came twice; who reads
        the URL refuses that.
        """
        return self._signer.verified(method, key, parameters, at=self._clock.now().timestamp())

    @store_failures()
    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        """See ObjectStore.delete_prefix."""
        image = place_of_prefix(self._root, prefix)
        self._empty(image.partials, image.is_partial, deadline)
        self._empty(image.folder, lambda _: True, deadline)
        self._hot.forget(image.folder)  # behind the names: who asked in between would have them kept again
        self._require_before(deadline, "the deletion took too long")
        # Not empty: a put came in between, so not all is deleted. That fails the call, and it will be repeated.
        with suppress(FileNotFoundError):
            self._disk.rmdir(image.folder)
        # Also when there was nothing to remove: an earlier call may have died before its sync.
        for folder in (image.partials, image.images):
            with suppress(FileNotFoundError):
                self._disk.sync_folder(folder)

    def list_prefix(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore.list_prefix. Tells no media type."""
        with store_failures():
            image = image_of_prefix(self._root, prefix)
            for folder in self._image_folders() if image is None else (image.folder,):
                yield from (info for info in _listed(folder) if info.key.startswith(prefix))

    def ping(self) -> None:
        """See ObjectStore.ping."""
        if not os.access(self._root + b"/.", os.R_OK | os.W_OK | os.X_OK):
            raise Unavailable("the object folder is gone or can't be written")

    def _ensure_slot(self, image: ImagePlace) -> None:
        if image.slot in self._durable_slots:
            return
        for folder in (image.outer, image.slot, image.images, image.partials):
            self._disk.ensure_folder(folder)
        self._interrupted.update(name.partition(b".")[0] for name in os.listdir(image.partials))

    def _publish(self, partial: bytes, path: bytes, image: ImagePlace) -> None:
        try:
            self._disk.publish(partial, path)
        except FileNotFoundError:
            # A deletion that slept past its deadline has removed the folder while it was empty. Or our file is gone,
            # and then this fails again.
            self._disk.ensure_folder(image.folder)
            self._disk.publish(partial, path)

    def _sync_slot(self, image: ImagePlace) -> None:
        # Behind the object's own folders, whose sync has most often written these names too: then there is nothing
        # left to wait for. Once a process: whoever made the slot may have died before its own sync.
        if image.slot not in self._durable_slots:
            for folder in (image.slot, image.outer, self._root):
                self._disk.sync_folder(folder)
            self._durable_slots.add(image.slot)

    def _remove_rests(self, image: ImagePlace, own: bytes, deadline: datetime) -> None:
        # Of earlier attempts at this upload, which died: once it commits, no reclaim entry answers for them any more.
        rests = {name for name in os.listdir(image.partials) if image.is_partial(os.fsdecode(name))}
        if rests - {os.path.basename(own)}:
            self._empty(image.partials, image.is_partial, deadline)
            self._disk.sync_folder(image.partials)

    def _receive(self, descriptor: int, content: BinaryIO, target: StoredObject) -> None:
        if isinstance(content, HashedBytes) and content.tell() == 0:
            size_bytes, sha256 = len(content.data), content.sha256()
            self._disk.write_all(descriptor, content.data)
        else:
            digest, size_bytes = hashlib.sha256(), 0
            while size_bytes <= target.size_bytes and (piece := content.read(_PIECE_BYTES)):
                size_bytes += len(piece)
                digest.update(piece)
                self._disk.write_all(descriptor, piece)
            sha256 = digest.hexdigest()
        if (size_bytes, sha256) != (target.size_bytes, target.sha256):
            raise Unavailable("the bytes are not those that were promised")

    def _require_same(self, path: bytes, target: StoredObject) -> None:
        descriptor, status = _open_object(path)
        with os.fdopen(descriptor, "rb") as stored:
            sha256 = hashlib.file_digest(stored, "sha256").hexdigest()
            if (status.st_size, sha256) != (target.size_bytes, target.sha256):
                raise Conflict("another object is stored under this key")
            self._disk.sync(stored.fileno())

    def _require_before(self, deadline: datetime, otherwise: str) -> None:
        if self._clock.now() >= deadline:
            raise Unavailable(otherwise)

    def _empty(self, folder: bytes, is_doomed: Callable[[str], bool], deadline: datetime) -> None:
        # Names are removed by the folder's descriptor, not its path: should this process sleep past its deadline,
        # others collect the image and a new upload makes the folder anew, the old descriptor can't reach it.
        with suppress(FileNotFoundError), opened(folder, FOLDER_FLAGS) as descriptor:
            for name in filter(is_doomed, os.listdir(descriptor)):
                self._require_before(deadline, "the deletion took too long")
                with suppress(FileNotFoundError):
                    self._disk.unlink(name, dir_fd=descriptor)

    def _image_folders(self) -> Iterator[bytes]:
        for outer in _subfolders(self._root, HASH_NAME):
            for slot in _subfolders(outer, HASH_NAME):
                yield from _subfolders(b"%b/%b" % (slot, IMAGES), IMAGE_NAME)


def _open_object(path: bytes) -> tuple[int, os.stat_result]:
    """Open a regular file: its descriptor and status. Anything else in its place is no object: FileNotFoundError."""
    try:
        descriptor = os.open(path, _OBJECT_FLAGS)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
            raise _absence(path) from error
        raise
    try:
        status = os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _absence(path)
    return descriptor, status


def _absence(path: bytes) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _info(key: str, status: os.stat_result, media_type: MediaType | None = None) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size_bytes=status.st_size,
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        media_type=media_type,
    )


def _listed(folder: bytes) -> Iterator[ObjectInfo]:
    image_id = os.path.basename(folder).decode()
    for entry in _entries(folder):
        # An object may be deleted while it is listed; a name that is not UTF-8 was never one.
        with suppress(FileNotFoundError, UnicodeDecodeError):
            key = f"{OBJECT_ROOT}{image_id}/{entry.name.decode()}"
            if entry.is_file(follow_symlinks=False):
                yield _info(key, entry.stat(follow_symlinks=False))


def _subfolders(folder: bytes, names: Pattern[bytes]) -> Iterator[bytes]:
    for entry in _entries(folder):
        if names.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield entry.path


def _entries(folder: bytes) -> Iterator["os.DirEntry[bytes]"]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries
