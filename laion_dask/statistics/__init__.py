"""Counts of a version as numbers with intervals: rates by group, distributions, and the demo's truth.

- domain_classes: A host name in, the class of its domain out: who may register there, as far as the name tells.
- intervals: Counts of a sample in, estimates with 95 % intervals out: shares and totals of strata, and ratios of two
  of them.
- rate_queries: Count how often something holds in a version, by group: one program and one vocabulary for report,
  card and MLflow.
- rates: Tables of a version in, rates by split, language, domain class and host out, each with its Wilson interval.
- summary: Tables of a version in, numbers out: funnel, histograms, languages, hosts, sizes, and safety rates with
  intervals.
- truth: The demo's truth labels and what became of each link in, true and false decisions with precision and recall
  out.
"""
