"""People's labels: which pairs they see, and what their labels say about a whole version.

- agreement: Labels of several people in, how far they agree beyond chance out: Cohen's kappa for two, Fleiss' for
  more.
- audit_page: A sample in, the files of an audit out: a page for labelers, and the sample's table and design for
  scoring.
- audit_sample: A version in, a seeded, stratified sample of its pairs out: what people are asked to label, and what
  it stands for.
- audit_score: A sample and its labels in, precision and recall of every decision with intervals out, for the whole
  version.
- hate: Scores of captions in, the published audits' measures of text out: hate content rate, sweeps, two sets
  compared.
- labels: Label files of volunteers in, checked data points out: question, answer, labeler and time for each pair.
- questions: A small YAML file in, the questions of an audit out: what people are asked, and which decision it judges.
- text_audit: Released tables and a text model in, the share of hateful or toxic captions with intervals out.
- text_models: A folder with the weights of a text classifier in, scores of captions out: hate speech, or toxicity.
"""
