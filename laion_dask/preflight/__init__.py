"""Check that everything exists that the parameters name, before a stage takes hours.

- looks: Read the files that parameters name as their stages read them, as far as that is quick.
- preflight: Check, before anything runs, that everything exists that the parameters name, for all stages at once.
"""
