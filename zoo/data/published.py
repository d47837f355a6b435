"""Files that somebody published, read only where they are what was published."""

from pathlib import Path

from zoo.data.images import md5
from zoo.errors import UserError


def read_published(path: Path, *, checksum: str) -> bytes:
    """The content of a file. Raises UserError where it cannot be read, or its MD5 is another."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); delete it and fetch it again.") from None
    if md5(content) != checksum:
        raise UserError(
            f"{path} is not the published file (its MD5 is {md5(content)}, not {checksum}); delete it and fetch it "
            "again."
        )
    return content
