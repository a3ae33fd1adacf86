"""What others call it: names of diffusers, k-diffusion, ComfyUI and A1111, and ours for each.

`ROWS` is the table, as data; `get("DPM++ 2M Karras")` looks a name up, `ask` one of ours too.
"""

from .lookup import Named, Spacing, ask, find, get
from .row import PEERS, Row
from .table import GRIDS, ROWS

__all__ = ["GRIDS", "PEERS", "ROWS", "Named", "Row", "Spacing", "ask", "find", "get"]
