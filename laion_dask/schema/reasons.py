"""The closed list of reasons for which rows are dropped.

A verdict is `keep`, or `drop` for one named reason.
"""

from __future__ import annotations

from typing import Final

KEEP: Final = "keep"

REASONS: Final[dict[str, dict[str, str]]] = {
    "extract": {
        "no_alt": "the image link has no alt text, or an empty one",
        "no_url": "the link object has no address",
        "relative_url": "the address is relative, and extract.relative_urls is drop",
        "bad_url": "the address cannot be resolved to a URL with a valid host",
        "url_scheme": "the address has another scheme than extract.schemes: data:, javascript:, ftp: and others",
        "url_too_long": "the address is longer than extract.max_url_chars, or its host than extract.max_host_chars",
        "url_pattern": "the address ends in a refused extension, or holds a refused substring",
        "private_host": "the host is no public one: localhost, a name without a dot, an address that is not global",
        "text_too_short": "the cleaned text has fewer characters than extract.min_chars",
        "page_opt_out": "the page reserves its rights: robots meta or header, tdm-reservation, Content-Usage, RSL",
        "url_seen": "the same WAT had the address before, and extract.unique_in_wat is url",
        "page_full": "the page has given extract.max_pairs_per_page pairs already",
    },
    "catalog": {
        "duplicate_pair": "the same URL and text came earlier in the crawl",
        "removed_url": "the URL stands in removals.csv",
        "removed_domain": "the URL's domain stands in removals.csv",
        "removed_uid": "the pair's uid stands in removals.csv",
        "listed_url": "the URL's hash stands on a list of known content",
    },
    "download": {
        "robots": "robots.txt of the image's host refuses, or could not be reached",
        "ai_txt": "/ai.txt of the image's host refuses the picture's address or type",
        "tdmrep": "/.well-known/tdmrep.json of the image's host reserves its rights",
        "rsl": "an RSL licence of the host or the response does not permit training freely, or cannot be read",
        "x_robots_tag": "the response's X-Robots-Tag refuses",
        "tdm_reservation": "the response's tdm-reservation header reserves rights",
        "content_usage": "the response's Content-Usage header, or that line of robots.txt, refuses training",
        "content_signal": "a Content-Signal line of robots.txt refuses training",
        "crawler_price": "the server asks to be paid: 402 with crawler-price",
        "xmp_data_mining": "plus:DataMining in the picture's XMP prohibits it, or cannot be read",
        "xmp_tdm": "tdm:reservation in the picture's XMP reserves rights, or cannot be read",
        "c2pa": "the picture's C2PA manifest does not allow mining or training, or cannot be read",
        "private_address": "the name resolves to an address that is not public",
        "refused_port": "the address has a port that is not in download.ports",
        "bad_row": "the table's row cannot be read, or its address or caption is no text (laion-dask download)",
        "unreachable": "no connection: unknown name, refused, reset or failed TLS",
        "not_archived": "the archive that stands in for the web has no answer to this, or not its body",
        "host_failing": "not asked for: the host failed download.host_failures times in a row, or asked for a pause",
        "host_budget": "not asked for: the shard has lost download.host_budget_s or host_budget_rows to the host",
        "shard_budget": "not asked for: the shard has taken download.shard_budget_s",
        "timeout": "the transfer did not end before its deadline",
        "redirects": "more redirects than allowed, or one to an address that is refused",
        "not_found": "the server answered 404 or 410",
        "http_error": "the server answered with another status than 200",
        "too_large": "the body has more bytes than download.max_bytes",
        "hash_mismatch": "the bytes have another hash than the table says (laion-dask download --hash-col)",
        "not_an_image": "the body is not an image of a known format",
        "truncated_image": "the image cannot be decoded to its end",
        "too_many_pixels": "the header claims more pixels than download.max_pixels",
        "decoder_crashed": "the decoder crashed, or took more than download.decode_timeout_s or decode_memory_mb",
        "listed_hash": "the image's hash stands on a list of known content",
        "listed_address": "the address, or one that a redirect leads to, stands on a list of known content",
        "changed_bytes": "the address shows another picture than in download.verify (with strict: gives other bytes)",
    },
    "score": {
        "unreadable_image": "the stored image cannot be decoded again",
        # Of `laion-dask score DIR`, whose tars others made.
        "doubled_name": "the tar has a name twice in one sample: which picture and which caption belong together?",
        "odd_name": "the picture ends in more than jpg, jpeg, png or webp; whether the text is of it is unclear",
        "bad_caption": "the caption is no UTF-8, no text, or longer than 1,000,000 bytes",
        "odd_member": "the picture is a link, a device or sparse, or its name leads out of the tar or is no UTF-8",
        "broken_tar": "the tar cannot be read to its end; what lies behind is not counted",
        "no_caption": "the sample has no caption: its picture is scored, without a similarity",
    },
    "filter": {
        "removed_hash": "the image's hash stands in removals.csv",
        "removed_later": "its perceptual hash is near one in removals.csv, which only the downloaded picture tells",
        "listed_later": "the image's hash stands on a list of known content that came after the download",
        "in_excluded_set": "the uid stands in a set of filter.drop_uids",
        "not_in_set": "the uid is missing in a set of filter.keep_uids",
        "few_bytes": "the image as received has fewer bytes than filter.min_bytes",
        "image_too_small": "the shorter side is below filter.min_side_px",
        "aspect_ratio": "the longer side is more than filter.max_aspect_ratio times the shorter",
        "few_chars": "the text has fewer characters than filter.min_chars",
        "few_words": "the text has fewer words than filter.min_words",
        "language": "the text's language is not in filter.languages",
        "no_entity": "no word of the text stands in the file of filter.text_entities",
        "unsafe": "the unsafe score is above filter.max_punsafe",
        "unsafe_keyword": "the unsafe score is high and a word of the text stands on the list of filter.keywords",
        "watermark": "the watermark score is above filter.max_pwatermark",
        "laion400m": "LAION-400M's rules drop it for words, minors or animals (score.tags, filter.laion400m)",
        "low_similarity": "the similarity of image and text is below the threshold of its split",
        "threshold": "a column is outside of the limits that filter.thresholds gives it",
        "where": "the expression of filter.where does not hold",
        "off_target": "the centroid nearest to the image is nearest to no target of filter.image_based",
        "evaluation_set": "the image is as near as filter.evaluation to one of an evaluation set",
        "below_top": "a column is below the top fraction that filter.top keeps",
        "duplicate_image": "another kept pair has the same image bytes",
        "near_duplicate": "another kept pair has nearly the same image, by filter.near_duplicates",
        "semantic_duplicate": "another kept pair has an image of the same meaning, by filter.semantic_duplicates",
        "unbalanced": "no entry of filter.balance is in the text, or every matching entry was sampled out",
        "not_sampled": "filter.sample never drew the pair, or it has no score to be drawn by",
    },
    # Of the two below: why a kept pair has no new text. The pair itself stays.
    "translate": {
        "split_not_asked": "the pair's split is not in translate.splits",
        "no_language": "the text's language is not known, and translate.no_language is skip",
        "language_unknown_to_model": "the model has no code for the text's language",
        "untranslatable_text": "the model's tokenizer refuses the text, or leaves nothing of it",
        "long_text": "the text has more tokens than translate.max_source_tokens",
        "empty_translation": "the model wrote nothing",
        "repeating_translation": "the model repeated itself up to the limit on tokens",
        "keyword_in_translation": "the unsafe score is high and a word of the new text stands on filter.keywords",
    },
    "caption": {
        "undecodable_image": "the stored image cannot be decoded for the captioner",
        "empty_caption": "every sample is empty, or nothing but the prompt",
        "repeating_caption": "every sample that is not empty repeats itself up to the limit on tokens",
        "keyword_in_caption": "the unsafe score is high and a word of the caption stands on filter.keywords",
    },
}
"""Every reason by the stage that gives it, with its meaning; the order in `filter` is the order of the rules."""

LATER: Final = frozenset({"unreachable", "timeout", "host_failing", "host_budget", "shard_budget"})
"""Reasons of download that may not hold for long; so may `http_error` (429 and 5xx) and an unreachable robots.txt."""

RULE_BITS: Final = {
    "removed_hash": 0,
    "listed_later": 1,
    "image_too_small": 2,
    "aspect_ratio": 3,
    "few_words": 4,
    "unsafe": 5,
    "watermark": 6,
    "low_similarity": 7,
    "duplicate_image": 8,
    "in_excluded_set": 9,
    "not_in_set": 10,
    "few_bytes": 11,
    "few_chars": 12,
    "language": 13,
    "no_entity": 14,
    "unsafe_keyword": 15,
    "laion400m": 16,
    "where": 17,
    "off_target": 18,
    "unbalanced": 19,
    "near_duplicate": 20,
    "semantic_duplicate": 21,
    "evaluation_set": 22,
    "not_sampled": 23,
    "removed_later": 39,
}
"""The bit of each rule in the column `rules` of the verdicts. A bit is never given to another rule, so that versions
can be compared; rules that a user names (filter.thresholds, filter.top) have those from NAMED_BITS on, in order."""

NAMED_BITS: Final = 40

REASON_STAGE: Final[dict[str, str]] = {reason: stage for stage, reasons in REASONS.items() for reason in reasons}

LISTED_IMAGES: Final = ("listed_hash", "listed_later")
"""Reasons of images that stand on a list of known content, whenever the list came."""

WITHHELD: Final = tuple(reason for reason in REASON_STAGE if reason.startswith(("removed_", "listed_")))
"""Reasons of removals and of lists of known content: what ends so is never shown, and leaves a tombstone."""


FUNNEL: Final = (
    ("extract", "links"),
    ("catalog", "pairs"),
    ("download", "images"),
    ("score", "images"),
    ("group", "images"),
    ("filter", "pairs"),
    ("release", "pairs"),
)
"""The ledgers through which a pair passes, by stage and name: what one keeps, the next sees."""

NEW_TEXTS: Final = (("translate", "texts"), ("caption", "captions"))
"""The ledgers of stages that give kept pairs a new text, or not: each sees what the filter keeps, and drops no pair."""
