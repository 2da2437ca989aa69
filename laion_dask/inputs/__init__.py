"""The stage inputs: digests of the files that parameters name by path.

- named_files: List the files that parameters name by path: the stage that reads each, its key and its kind.
- part: Digest the files that parameters name, for each stage, so that DVC detects a changed file.
- run: Run the stage inputs: write the digests of the files that parameters name, a list for each stage.
"""
