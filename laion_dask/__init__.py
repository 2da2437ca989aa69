"""Build image-text datasets after LAION: a package for each stage, and packages for what stages share.

A package imports only from those above it in this list; stages never import each other.

- schema: What the stages hand to each other: tables, columns, reasons and counts.
- params: params.yaml as frozen models, and the published recipes.
- storage: How data lies on disk: shards, embeddings, joined tables, lists and sheets.
- web: Everything that meets the web: addresses, opt-outs, polite requests, archives.
- cluster: The Dask cluster that the machine's settings name.
- workers: Which workers may work.
- runner: Parts on a cluster: handed out, watched, resumed, checked.
- images: From the bytes of a body to a checked picture.
- blocklists: What is kept out: the ledger of removals and the lists of known content.
- statistics: Counts of a version as numbers with intervals.
- clip: A loaded CLIP model.
- texts: What is asked of every text of an image, whoever wrote it.
- inputs, crawl, extract, catalog, download, score, group, filter, translate, caption, release: The stages.
- versions: Versions beside each other: compared, identified, and the history of a pair.
- report: The last stage: figures, one HTML page, and the run in MLflow.
- audit: People's labels, and what they say about a version.
- removals: Removal requests, and the purge that proves what is gone.
- share: A version for others: RO-Crate, hub, summary of training content.
- demo: The labelled demo crawl and its small models.
- preflight: Checks that all is there before a stage takes hours.
- standalone: The runs of extract, download, score, translate and caption on files, without a project.
- cli: The command line, a module for each command.
"""

from laion_dask.cluster import interrupts

# First of all: what follows imports, and Ctrl-C while a program of ours imports is no traceback.
interrupts.exit_on_signals_in_programs()

from importlib.metadata import version  # noqa: E402 - see above

__version__ = version("laion-dask")
