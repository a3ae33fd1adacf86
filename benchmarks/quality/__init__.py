"""Time to quality: the task, the peers' recipes as small adapters, ours, the runs, the table."""
