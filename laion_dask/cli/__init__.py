"""The command line: a module for each command.

- audit: Write a page for labelers, and estimate precision and recall from their labels.
- console: Print lines, tables and errors on the terminal; used by all commands.
- crawls: List Common Crawl's crawls, and estimate what reading them would give and cost.
- diff: Compare two versions, and print what changed between them.
- download: Download tables of URLs that the user names into a folder, or run the step of the project.
- export: Write a scored version as a folder in another tool's layout.
- extract: Extract pairs from WATs that the user names into a folder, or run the step of the project.
- linkrot: Compare two downloads, and print what became of the pairs of the earlier one.
- main: The program `laion-dask`: a command for each step of a project, and commands to inspect and correct versions.
- new_texts: Commands that write new texts for images.
- peers: Options in the spelling of programs that do the same.
- params: Print the effective parameters, list recipes, apply one to params.yaml.
- purge: Delete all stored data of removed pairs, and print the result of the scan that proves it.
- remove: Check a removal request, add it to removals.csv, and print how many pairs it removes.
- runs: Commands that show how steps were run.
- score: Score the tars of a folder that the user names, or run the step of the project.
- sharing: Commands that describe a version for others, and publish it.
- steps: The steps of a project: each command runs one stage as `workflow/` of the checkout describes it.
- verify: Check the folder of a release, and print each file that differs from the manifest.
- why: Print what the catalog knows of a URL, uid or image; load versions into the catalog.
"""
