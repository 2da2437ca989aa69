"""The stage inputs: digests of the files that parameters name by path.

- named_files: Lists the files that parameters name by path: which stage reads each, under which key, and what it has
  to be.
- part: What parameters name by path, digested for each stage: so that DVC sees a file that has changed under its
  name.
- run: Run the stage inputs: write the digests of the files that parameters name, a list for each stage.
"""
