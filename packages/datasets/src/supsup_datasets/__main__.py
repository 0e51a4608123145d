"""`python -m supsup_datasets` prints the tree of scenarios (Figure 9)."""

import sys

from supsup_datasets.scenario import draw_tree

if __name__ == "__main__":
    sys.stdout.write(draw_tree() + "\n")
