"""The stage report: figures, one HTML page, and the run in MLflow.

- figures: Draw figures as PNG and SVG: the same numbers give the same bytes.
- gallery: Draw a seeded sample of pictures for the report; what must not be seen is blurred or left out.
- linkrot_figure: Draw link rot: what became of all pairs, of each year's and of each large host's.
- part: Numbers and figures of a version in, one self-contained HTML page out, with the numbers beside it as JSON.
- reference: The name of a reference table in, published numbers out: what report and comparison draw beside one's
  own.
- reference_figures: Draw numbers of a version beside published ones.
- report_tables: Write the report's numbers as CSV tables for a spreadsheet, a script or MLflow's page.
- tracking: File a version as one MLflow run, which is found again by its content and completed instead of doubled.
"""
