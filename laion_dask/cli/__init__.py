"""The command line: a module for each command.

- audit: A version on the command line in, a page for labelers out; their labels in, precision and recall out.
- console: Counts, tables and errors in, lines on the terminal out: what the commands share.
- crawls: Ids of crawls on the command line in; what Common Crawl has of them, and what reading it would give and
  cost, out.
- diff: The names of two versions on the command line in; what changed between them out.
- download: Tables of URLs named on the command line in, a folder of shards out, with rates, the funnel and how to
  look at it.
- export: A scored version in, a folder in another tool's layout out.
- extract: WATs named on the command line in, a folder of pairs out, with rates, the funnel and how to look at it.
- linkrot: Folders of two downloads on the command line in; what became of the pairs of the earlier one out.
- main: The command line: each step alone, and the questions that users ask.
- params: Parameters and recipes: what holds, what a recipe changes, and params.yaml with a recipe laid over it.
- purge: A project on the command line in; what is stored of removed pairs deleted, recorded, and proved gone.
- remove: A removal request on the command line in; checked lines in removals.csv, and what they take out, told.
- score: A folder of tars named on the command line in; embeddings, similarity and scores of its images out.
- steps: The steps of a project: each command runs one stage as `workflow/` of the checkout describes it.
- verify: The folder of a release on the command line in; each file that is not what the manifest says out.
- why: A URL, uid or image on the command line in; what the catalog knows of it out. And versions into the catalog.
"""
