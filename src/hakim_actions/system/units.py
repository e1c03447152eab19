"""Sizes as people read them."""


def size(count: int) -> str:
    """Return *count* bytes in powers of 1000, like disks and downloads."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def change(old: int, new: int) -> str:
    """Return how a size changed: ``+1.2 MB``, or ``±0``."""
    if old == new:
        return "±0"
    sign = "+" if new > old else "\N{MINUS SIGN}"
    return f"{sign}{size(abs(new - old))}"
