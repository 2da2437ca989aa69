"""The parameters of a version: params.yaml as frozen models, a module for each section, and the published recipes.

- model: params.yaml as one model, and how it is read and refused. The package hands on its names and the sections'.
- section: The base of every section: frozen, closed to unknown keys, strict about types.
- types: Types of parameters that several sections share.
- crawl, extract, catalog, download, score, group, filters, release: One section each (release has report's too).
- heads: What score.heads, score.tags and score.faces name.
- lists: What catalog.lists names: files of known content.
- recipes: The values of params.yaml that stand for a published dataset.
"""

from laion_dask.params.catalog import Catalog
from laion_dask.params.crawl import Crawl
from laion_dask.params.download import Download
from laion_dask.params.extract import Extract
from laion_dask.params.filters import Filter, Similarity
from laion_dask.params.model import PARAMS_FILE, Params, ParamsError, document, load, parse
from laion_dask.params.release import Release, Report
from laion_dask.params.score import Model, Score

__all__ = [
    "PARAMS_FILE",
    "Catalog",
    "Crawl",
    "Download",
    "Extract",
    "Filter",
    "Model",
    "Params",
    "ParamsError",
    "Release",
    "Report",
    "Score",
    "Similarity",
    "document",
    "load",
    "parse",
]
