"""How long computations run: progress, memory limit, and checkpoints that a run can go on from."""
