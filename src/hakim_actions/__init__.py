"""Golden Debian LXC templates for Proxmox and Coder, from a commit to a running workspace."""

from typing import Final

__version__: Final = "0.1.0"
