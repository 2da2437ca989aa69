"""People's labels: the sample of pairs that they label, and estimates for a whole version.

- agreement: Measure how far labelers agree beyond chance: Cohen's kappa for two, Fleiss' kappa for more.
- audit_page: Write the files of an audit: a page for labelers, and the sample's table and design for scoring.
- audit_sample: Draw a seeded, stratified sample of a version's pairs for people to label, with the sizes of strata.
- audit_score: Estimate precision and recall of every decision in a version from labels of a sample, with intervals.
- hate: The measures of published audits of captions: hate content rate, by threshold, and its rise between two sets.
- labels: Read and check the label files of volunteers: question, answer, labeler and time for each pair.
- questions: Read the questions of an audit: what people are asked, and which decision each question judges.
- text_audit: Estimate the share of hateful or toxic captions in released tables, with intervals.
- text_models: Text classifiers of hate speech and toxicity, loaded from a folder of weights.
"""
