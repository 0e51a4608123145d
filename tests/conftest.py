import signal

import torch
from hypothesis import settings

# Nothing is asserted about time, and the first example of a test may compile or load something.
settings.register_profile("supsup", deadline=None)
settings.load_profile("supsup")

# Two workers share two cores (pytest-xdist).
torch.set_num_threads(1)

# What a shell script starts with `&` ignores Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
