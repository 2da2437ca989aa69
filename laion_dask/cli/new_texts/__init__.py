"""Commands that write new texts for images.

- caption: Caption the tars of a folder that the user names, or run the step of the project.
- translate: Translate tables of texts that the user names, or run the step of the project.
"""
