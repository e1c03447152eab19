"""The fake parser of uploads refuses and damages exactly what pveproxy does."""

import io
from collections.abc import Sequence

import pytest
from fakes.proxmox_upload import UploadError, receive

BOUNDARY = b"b0undary"
CONTENT = bytes(range(256)) * 16


def text(name: str, value: str) -> bytes:
    return (
        f'--b0undary\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    )


def file(name: str = "filename", attribute: str = 'filename="a.tar.xz"') -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; {attribute}\r\n'
    kind = "Content-Type: application/octet-stream\r\n\r\n"
    return f"--b0undary\r\n{head}{kind}".encode() + CONTENT + b"\r\n"


END = b"--b0undary--\r\n"
FIELDS = [text("content", "vztmpl"), text("checksum-algorithm", "sha256"), text("checksum", "ab")]


def upload(parts: Sequence[bytes], *, first: int | None = None) -> tuple[dict[str, str], bytes]:
    """Parse *parts*; *first* is how many bytes the first read gets."""
    body = b"".join(parts)
    stream, saved, sizes = io.BytesIO(body), io.BytesIO(), iter([first or 65536])
    done = receive(
        lambda: stream.read(next(sizes, 700)), boundary=BOUNDARY, length=len(body), save=saved
    )
    return done.params, saved.getvalue()


def test_the_right_order_is_taken_whole() -> None:
    params, saved = upload([*FIELDS, file(), END])
    assert params == {
        "content": "vztmpl",
        "checksum-algorithm": "sha256",
        "checksum": "ab",
        "filename": "a.tar.xz",
    }
    assert saved == CONTENT


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_another_order_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(UploadError, match="wrong Content-Disposition 'form-data'"):
        upload([*(FIELDS[i] for i in order), file(), END])


def test_an_unknown_field_is_taken_for_the_file_and_refused() -> None:
    with pytest.raises(UploadError, match="wrong field name 'notes'"):
        upload([text("notes", "x"), file(), END])


def test_the_file_part_must_be_called_filename() -> None:
    with pytest.raises(UploadError, match="wrong field name 'file'"):
        upload([*FIELDS, file("file"), END])


def test_an_encoded_file_name_is_refused() -> None:
    with pytest.raises(UploadError, match="upload failed"):
        upload([*FIELDS, file(attribute="filename*=utf-8''a.tar.xz"), END])


def test_a_field_after_the_file_becomes_content() -> None:
    params, saved = upload([FIELDS[0], file(), FIELDS[2], END])
    assert "checksum" not in params
    assert saved.startswith(CONTENT)
    assert b'name="checksum"' in saved


def test_a_read_that_ends_inside_the_headers_damages_the_file() -> None:
    parts = [*FIELDS, file(), END]
    first = len(b"".join(FIELDS)) + file().index(b"\r\nContent-Type") + 2
    _, saved = upload(parts, first=first)
    assert saved != CONTENT
    assert saved.endswith(CONTENT)


@pytest.mark.parametrize("first", [1, 50, 150, len(b"".join(FIELDS))])
def test_reads_that_end_elsewhere_are_harmless(first: int) -> None:
    assert upload([*FIELDS, file(), END], first=first)[1] == CONTENT
