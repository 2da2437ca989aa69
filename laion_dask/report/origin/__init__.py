"""A version beside the one before it in Git's history.

- drawing: Draw where a version comes from, and what changed since the version before it, as SVG files beside the
  version.
- headline: Choose the few numbers of a version that DVC compares: metrics/summary.json.
- parent: Read from Git and the traces where a version comes from, and how it differs from the version before it.
"""
