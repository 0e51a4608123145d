"""The paper's tables and figures, one target each: what is missing is run, and ours is set beside the paper's."""
