"""How pveproxy reads an upload: by order and by luck of the reads, not as MIME.

The rules, tried on the real parser (PVE/APIServer/AnyEvent.pm): the text fields must come as
content, checksum-algorithm, checksum; then one file part named ``filename``. A text field after
the file becomes part of the file. If a read ends inside the headers of the file part, the rest of
the headers becomes part of the file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

TEXT_FIELDS = ("content", "checksum-algorithm", "checksum")
#: pveproxy gives up on a request whose fields did not show up in this many bytes.
MAX_BUFFER = 520 * 1024
_DISPOSITION = re.compile(
    rb'\r?\nContent-Disposition: ([^;\r\n]*); name="([^\r\n]*?)"(; [^\r\n]*)?'
)
_FILE = re.compile(rb'; filename="([^"]+)"')


class UploadError(Exception):
    """Answered with 500 and this text as the reason."""


@dataclass
class Upload:
    params: dict[str, str] = field(default_factory=dict)
    received: int = 0


def receive(read: Callable[[], bytes], *, boundary: bytes, length: int, save: IO[bytes]) -> Upload:
    """Read *length* bytes of a body through *read* and write the file's content to *save*."""
    upload, buffer = Upload(), b""
    delimiter = b"--" + boundary
    while True:
        chunk = read()
        upload.received += len(chunk)
        buffer += chunk
        done, buffer = _preamble(buffer, delimiter, upload)
        if done:
            break
        if not chunk or upload.received >= length:
            msg = "upload failed"
            raise UploadError(msg)
        if len(buffer) > MAX_BUFFER:
            msg = "No space left on device"
            raise ConnectionAbortedError(msg)
    _content(read, buffer, b"\r\n" + delimiter + b"--", upload, length=length, save=save)
    return upload


def _preamble(buffer: bytes, delimiter: bytes, upload: Upload) -> tuple[bool, bytes]:
    """Take whole parts off *buffer*; True with the start of the content when the file began."""
    while buffer.startswith(delimiter):
        head = _DISPOSITION.match(buffer, len(delimiter))
        if head is None:
            if b"\r\n\r\n" in buffer:
                msg = "upload failed"  # the disposition is not the first header
                raise UploadError(msg)
            return False, buffer
        disposition, name, rest = head[1].decode(), head[2].decode(), head[3] or b""
        if rest or name not in TEXT_FIELDS:
            return _file_part(buffer[head.end() :], name, rest, upload)
        end = buffer.find(b"\r\n" + delimiter, head.end())
        if end < 0:
            return False, buffer
        _text_part(buffer[head.end() : end], disposition, name, upload)
        buffer = buffer[end + 2 :]
    return False, buffer


def _text_part(part: bytes, disposition: str, name: str, upload: Upload) -> None:
    order = [field for field in TEXT_FIELDS if field in upload.params]
    late = order and TEXT_FIELDS.index(name) < TEXT_FIELDS.index(order[-1])
    if disposition != "form-data" or late:
        msg = f"wrong Content-Disposition '{disposition}' in multipart, expected 'form-data'"
        raise UploadError(msg)
    upload.params[name] = part.partition(b"\r\n\r\n")[2].decode().strip()


def _file_part(rest: bytes, name: str, attributes: bytes, upload: Upload) -> tuple[bool, bytes]:
    if name != "filename":
        msg = f"wrong field name '{name}' for file upload, expected 'filename'"
        raise UploadError(msg)
    file = _FILE.match(attributes)
    if file is None:
        msg = "upload failed"
        raise UploadError(msg)
    upload.params["filename"] = file[1].decode()
    # Headers that are not there yet are taken for content when they come.
    _, found, content = rest.partition(b"\r\n\r\n")
    return True, content if found else rest


def _content(
    read: Callable[[], bytes],
    start: bytes,
    closing: bytes,
    upload: Upload,
    *,
    length: int,
    save: IO[bytes],
) -> None:
    tail = start
    while upload.received < length:
        chunk = read()
        if not chunk:
            msg = "client went away"
            raise ConnectionAbortedError(msg)
        upload.received += len(chunk)
        # The end may lie across two reads: hold back as much as it could take.
        keep = len(closing) + 8
        if len(tail) > keep:
            save.write(tail[:-keep])
            tail = tail[-keep:]
        if len(chunk) > keep:
            save.write(tail)
            save.write(memoryview(chunk)[:-keep])
            tail = chunk[-keep:]
        else:
            tail += chunk
    end = tail.rfind(closing)
    if end < 0:
        msg = "upload failed"
        raise UploadError(msg)
    save.write(tail[:end])
