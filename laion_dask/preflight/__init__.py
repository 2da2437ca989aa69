"""Checks that all is there that the parameters name, before a stage takes hours.

- looks: Looks at the files that parameters name, each as the stage that needs it does, as far as that is quick.
- preflight: Checks before anything runs that all is there that the parameters name, for every stage at once.
"""
