"""The parameters of a version: params.yaml as frozen models, a module for each section, and the published recipes.

- model: params.yaml as one model: reading and validation. The package exports its names and the sections.
- section: The base of every section: frozen, without unknown keys, strict about types.
- types: Types of parameters that several sections share.
- crawl, extract, catalog, download, score, group, filters, translate, caption, release: One section each (release has
  report's too).
- heads: Entries of score.heads, score.tags, score.faces and score.masked_text.
- lists: Entries of catalog.lists: lists of known content.
- recipes: Apply the rules of published datasets to params.yaml.
"""

from laion_dask.params.caption import Caption, Ranker
from laion_dask.params.catalog import Catalog
from laion_dask.params.crawl import Crawl
from laion_dask.params.download import Download
from laion_dask.params.extract import Extract
from laion_dask.params.filters import Filter, Similarity
from laion_dask.params.model import PARAMS_FILE, Params, ParamsError, document, load, parse
from laion_dask.params.release import Release, Report
from laion_dask.params.score import Model, Score
from laion_dask.params.translate import Translate

__all__ = [
    "PARAMS_FILE",
    "Caption",
    "Catalog",
    "Crawl",
    "Download",
    "Extract",
    "Filter",
    "Model",
    "Params",
    "ParamsError",
    "Ranker",
    "Release",
    "Report",
    "Score",
    "Similarity",
    "Translate",
    "document",
    "load",
    "parse",
]
