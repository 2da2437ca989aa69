"""Statistics of a version with intervals: rates by group, distributions, and the demo's truth.

- domain_classes: Classify the domain of a host by who may register there, as far as its name shows that.
- intervals: Compute shares and totals with 95 % intervals, of whole tables and of sampled strata.
- new_text_truth: Judge the texts that models wrote by the demo's labels: right ones name the thing and the color of the
  picture.
- new_texts: Summarise the texts that models wrote: how many, how similar to their images, how often they beat the alt
  text.
- rate_queries: Count the measures of a version by group, with the same names for report, card and MLflow.
- rates: Compute the rates of a version by split, language, domain class and host, each with its Wilson interval.
- summary: Summarise a version in numbers: funnel, histograms, languages, hosts, sizes, and safety rates with
  intervals.
- truth: Judge every decision of a demo version by the demo's truth labels: precision and recall with intervals.
- waves: Count what each crawl brought, in the order of the crawls: new and repeated pairs, dead links, kept pairs.
"""
