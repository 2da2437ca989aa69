"""The command line: a module for each command.

- audit: A version on the command line in, a page for labelers out; their labels in, precision and recall out.
- console: Print lines, tables and errors on the terminal; used by all commands.
- crawls: Ids of crawls on the command line in; what Common Crawl has of them, and what reading it would give and
  cost, out.
- diff: The names of two versions on the command line in; what changed between them out.
- download: Download tables of URLs that the user names into a folder, or run the step of the project.
- export: A scored version in, a folder in another tool's layout out.
- extract: Extract pairs from WATs that the user names into a folder, or run the step of the project.
- linkrot: Folders of two downloads on the command line in; what became of the pairs of the earlier one out.
- main: The program `laion-dask`: a command for each step of a project, and one for each question that users ask.
- params: Print the parameters that hold, and lay a recipe over params.yaml.
- purge: Delete what is stored of removed pairs, and print what was found and what is proved.
- remove: A removal request on the command line in; checked lines in removals.csv, and what they take out, told.
- score: Score the tars of a folder that the user names, or run the step of the project.
- steps: The steps of a project: each command runs one stage as `workflow/` of the checkout describes it.
- verify: The folder of a release on the command line in; each file that is not what the manifest says out.
- why: A URL, uid or image on the command line in; what the catalog knows of it out. And versions into the catalog.
"""
