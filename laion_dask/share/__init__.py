"""A version for others: its provenance as an RO-Crate, its tables on a hub, its summary for the public.

- citation: Say how a version is cited: BibTeX for its card, CITATION.cff, and the metadata of a deposit at Zenodo.
- crate: Write a version as a Workflow Run RO-Crate: workflow, parameters, what each stage read and wrote, who and when.
- crate_entities: Describe the parts of a run in the words of Workflow Run RO-Crate: one function for each kind of
  entity.
- hub: Prepare a release as a dataset repository of the Hugging Face hub, and upload it with the hub's client.
- lance_table: Write scored pairs with their embeddings as one Lance table, with indexes for vectors, words and uids.
- locked: Read what DVC has recorded of a version: dvc.yaml and dvc.lock, checked against params.yaml and metrics/.
- summary: Write the public summary of training content of a version (EU AI Act, Article 53(1)(d)): one page, JSON,
  domains.
- summary_answers: Answer the questions of the Commission's template for a version: from its files, or as a task for
  people.
- summary_crawler: Answer the template's questions on the crawler, on opt-outs and on unlawful content, from parameters
  and counts.
- summary_figures: Measure a version for the summary of training content: amounts, languages, dates, domains by bytes.
"""
