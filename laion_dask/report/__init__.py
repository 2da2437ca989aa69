"""The stage report: figures, one HTML page, and the run in MLflow.

- figures: Numbers in, figures out: PNG and SVG files with the same bytes for the same numbers.
- gallery: Shards and verdicts in, a seeded sample of pictures as data URIs out; what must not be seen is blurred or
  left out.
- linkrot_figure: Link rot in, one figure out: what became of all pairs, of each year's and of each large host's.
- part: Numbers and figures of a version in, one self-contained HTML page out, with the numbers beside it as JSON.
- reference: The name of a reference table in, published numbers out: what report and comparison draw beside one's
  own.
- reference_figures: Numbers of a version and published ones in, figures that set them side by side out; drawn as
  `figures` draws.
- report_tables: Numbers of a version in, CSV tables out: what the report shows, for a spreadsheet, a script or
  MLflow's page.
- tracking: The tracked files of a version in, one MLflow run out: found again by its content, and filled in rather
  than doubled.
"""
