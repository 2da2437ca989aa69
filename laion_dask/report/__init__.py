"""The stage report: figures, one HTML page, and the run in MLflow.

- figures: Draw figures as PNG and SVG: the same numbers give the same bytes.
- gallery: Draw a seeded sample of pictures for the report; unsafe ones are blurred, reserved ones left out.
- linkrot_figure: Draw link rot: the share of each result over all pairs, by year and by large host.
- new_text_figures: Draw the similarities of texts that models wrote beside those of the alt texts.
- new_text_gallery: Draw a seeded sample of kept pictures with their alt text, English text and caption, for the report.
- origin: A version beside the one before it in Git's history.
- part: Numbers and figures of a version in, one self-contained HTML page out, with the numbers beside it as JSON.
- reference: Read the published numbers that the report and comparisons of versions draw beside a version's own.
- reference_figures: Draw numbers of a version beside published ones.
- report_tables: Write the report's numbers as CSV tables for a spreadsheet, a script, MLflow's page or DVC's plots.
- run_metrics: Choose the numbers of a version for MLflow: a few with short names, the others in a table.
- run_summary: Name and describe a version's run in MLflow by what differs from the version before it.
- runs: MLflow's database of a project, and its page.
- stage_times: Add up the traces of the stages: how long each took, its processor time, its slowest part, its largest
  memory.
- timeline: Draw when which worker ran which part, with a table of the stages, as an SVG file beside the version.
- timeline_layout: Lay out a timeline: which worker ran which part when, on one axis from which pauses are cut.
- tracking: Log a version as one MLflow run; logging the same version again updates this run.
- wave_figure: Draw by crawl what became of its new pairs: kept, dropped by the filter, or without an image.
"""
