"""What is asked of every text of an image, whoever wrote it.

- keywords: Find which captions contain a word of a list: whole words, in any case and script.
- new_texts: Ask of texts that a model wrote what is asked of alt texts, and compare them with their images.
- personal: Count personal data in the text and address of each pair, by kind; no value is ever stored.
"""
