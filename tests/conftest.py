"""One thread for every test: the suite shares its machine, and sums keep their order.

jaxtyping's import hook with beartype stays off: it would raise its own error before ours wherever
a test hands over bad input or a stand-in for `Streams`, and it makes the suite three times slower.
"""

import torch

torch.set_num_threads(1)
