"""MLflow's database of a project, and its page.

- page: Find the page of MLflow that shows a project's versions: its server or database, and the experiment.
- places: Keep the addresses of MLflow's artifacts relative to the project, so that a moved or copied one has its own.
- server: Start MLflow's server on a project, wait until it answers, and end it with all of its processes.
- store: Open the MLflow database of a project, and write experiments, runs, values and files to it.
- view: The saved view of MLflow's runs table with thresholds and counts as columns, and the address that opens it.
"""
