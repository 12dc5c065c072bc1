from __future__ import annotations

import torch

# Other tests run beside these: threads that wait for each other would take ten times as long.
torch.set_num_threads(1)
