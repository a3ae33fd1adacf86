"""Names of samplers in diffusers, k-diffusion, ComfyUI and A1111, and ours for each.

`ROWS` is the table; `get("DPM++ 2M Karras")` finds one of their names, `ask` one of ours too.
"""

from .lookup import GRIDS, ROWS, Named, Spacing, ask, find, get
from .row import PEERS, Row

__all__ = ["GRIDS", "PEERS", "ROWS", "Named", "Row", "Spacing", "ask", "find", "get"]
