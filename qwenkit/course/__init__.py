"""The papermill runner: its target, each notebook's record, the run's report."""
