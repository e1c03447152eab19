"""What doctor finds: one precondition, whether it holds, and the lines that make it hold."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``ok`` is None for what is only useful, not needed; ``fix`` are commands, one a line."""

    check: str
    ok: bool | None
    detail: str = ""
    fix: tuple[str, ...] = ()
