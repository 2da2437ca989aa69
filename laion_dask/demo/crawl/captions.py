"""Write the alt text of a scene, "a small red star in the snow", in eight languages or as a code.

Nouns have a gender, adjectives a form for each gender, settings two wordings, so that every sentence is grammatical. No
caption mentions beauty, watermark or unsafe mark, which must be detected in the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laion_dask.demo.crawl.scenes import COLORS, SETTINGS, THINGS, Scene

Forms = tuple[str, ...]


class CaptionLanguage(NamedTuple):
    """The words of one language; ``things`` has each noun and the index of its gender in the forms."""

    things: dict[str, tuple[str, int]]
    colors: dict[str, Forms]
    sizes: dict[str, Forms]
    settings: dict[str, tuple[str, str]]
    articles: Forms
    templates: Forms


def _things(words: str) -> dict[str, tuple[str, int]]:
    """Read "gender:noun" in the order of THINGS."""
    pairs = (word.split(":") for word in words.split(", "))
    return {thing: (noun, int(gender)) for thing, (gender, noun) in zip(THINGS, pairs, strict=True)}


def _colors(words: str) -> dict[str, Forms]:
    """Read "masculine/feminine/neuter" in the order of COLORS; a single form is used for all genders."""
    return {color: _forms(word) for color, word in zip(COLORS, words.split(", "), strict=True)}


def _forms(word: str) -> Forms:
    forms = tuple(word.split("/"))
    return forms if len(forms) > 1 else forms * 3


def _settings(words: str) -> dict[str, tuple[str, str]]:
    """Read two wordings for each of SETTINGS."""
    first_second = (tuple(word.split("/")) for word in words.split(", "))
    return {setting: (first, second) for setting, (first, second) in zip(SETTINGS, first_second, strict=True)}


WORDS: dict[str, CaptionLanguage] = {
    "en": CaptionLanguage(
        _things(
            "0:star, 0:house, 0:fish, 0:tree, 0:car, 0:moon, 0:heart, 0:boat, 0:flower, 0:mushroom, 0:cup, "
            "0:umbrella, 0:key, 0:balloon",
        ),
        _colors("red, orange, yellow, green, blue, purple, black, white"),
        {"small": _forms("small"), "large": _forms("large")},
        _settings(
            "in the snow/in a snowy field, in the night sky/under the starry sky, on a meadow/in the grass, "
            "on the sea/by the sea, in the desert/on desert sand, in front of a plain wall/against a plain wall",
        ),
        ("a", "a", "a"),
        (
            "{a} {size} {color} {thing} that is {where}",
            "A picture of {a} {size} {color} {thing} {where}",
            "This is {a} {size} {color} {thing} {where}",
            "There is {a} {size} {color} {thing} {where}",
            "We found {a} {size} {color} {thing} {where} today",
            "The {thing} is {color} and {size}, {where}",
            "It is {color} and {size}: the {thing} {where}",
            "This {thing} {where} is {color}",
            "You can see {a} {size} {color} {thing} here",
        ),
    ),
    "de": CaptionLanguage(
        _things(
            "0:Stern, 2:Haus, 0:Fisch, 0:Baum, 2:Auto, 0:Mond, 2:Herz, 2:Boot, 1:Blume, 0:Pilz, 1:Tasse, "
            "0:Regenschirm, "
            "0:Schlüssel, 0:Ballon",
        ),
        _colors(
            "roter/rote/rotes, orangefarbener/orangefarbene/orangefarbenes, gelber/gelbe/gelbes, "
            "grüner/grüne/grünes, blauer/blaue/blaues, "
            "violetter/violette/violettes, schwarzer/schwarze/schwarzes, weißer/weiße/weißes",
        ),
        {"small": _forms("kleiner/kleine/kleines"), "large": _forms("großer/große/großes")},
        _settings(
            "im Schnee/auf einem verschneiten Feld, am Nachthimmel/unter dem Sternenhimmel, "
            "auf der Wiese/im hohen Gras, "
            "auf dem Meer/am Meer, in der Wüste/im Wüstensand, vor einer schlichten Wand/vor einer leeren Wand",
        ),
        ("ein", "eine", "ein"),
        (
            "{a} {size} {color} {thing} {where}",
            "Das ist {a} {size} {color} {thing} {where}",
            "Auf dem Bild ist {a} {size} {color} {thing} {where} zu sehen",
            "Hier ist {a} {size} {color} {thing} {where}",
            "Nur {a} {color} {thing} {where}",
            "{where} ist {a} {size} {color} {thing} zu sehen",
            "Wir sehen hier: {a} {size} {color} {thing} {where}",
        ),
    ),
    "fr": CaptionLanguage(
        _things(
            "1:étoile, 1:maison, 0:poisson, 0:arbre, 1:voiture, 1:lune, 0:cœur, 0:bateau, 1:fleur, 0:champignon, "
            "1:tasse, "
            "0:parapluie, 1:clé, 0:ballon",
        ),
        _colors("rouge, orange, jaune, vert/verte, bleu/bleue, violet/violette, noir/noire, blanc/blanche"),
        {"small": _forms("petit/petite"), "large": _forms("grand/grande")},
        _settings(
            "dans la neige/sur un champ enneigé, dans le ciel nocturne/sous un ciel étoilé, "
            "dans la prairie/dans l'herbe, "
            "sur la mer/au bord de la mer, dans le désert/sur le sable du désert, "
            "devant un mur uni/devant un mur vide",
        ),
        ("un", "une"),
        (
            "{a} {size} {thing} {color} {where}",
            "Voici {a} {size} {thing} {color} {where}",
            "Image avec {a} {size} {thing} {color} {where}",
            "C'est {a} {size} {thing} {color} {where}",
            "On voit {a} {size} {thing} {color} {where}",
            "{a} {thing} {color} {where}",
            "Il y a {a} {size} {thing} {color} sur cette image",
        ),
    ),
    "es": CaptionLanguage(
        _things(
            "1:estrella, 1:casa, 0:pez, 0:árbol, 0:coche, 1:luna, 0:corazón, 0:barco, 1:flor, 1:seta, 1:taza, "
            "0:paraguas, 1:llave, 0:globo",
        ),
        _colors("rojo/roja, naranja, amarillo/amarilla, verde, azul, morado/morada, negro/negra, blanco/blanca"),
        {"small": _forms("pequeño/pequeña"), "large": _forms("grande")},
        _settings(
            "en la nieve/sobre un campo nevado, en el cielo nocturno/bajo un cielo estrellado, "
            "en el prado/sobre la hierba, "
            "en el mar/junto al mar, en el desierto/sobre la arena del desierto, "
            "delante de una pared lisa/frente a una pared vacía",
        ),
        ("un", "una"),
        (
            "{a} {thing} {color} y {size} {where}",
            "Aquí hay {a} {thing} {color} y {size} {where}",
            "Esta es la imagen de {a} {thing} {color} {where}",
            "Se ve {a} {thing} {size} de color {plain_color} {where}",
            "Dibujo de {a} {thing} {color} {where}",
            "Hay {a} {thing} {color} muy {size} {where}",
        ),
    ),
    "it": CaptionLanguage(
        _things(
            "1:stella, 1:casa, 0:pesce, 0:albero, 1:macchina, 1:luna, 0:cuore, 1:barca, 0:fiore, 0:fungo, "
            "1:tazza, 0:ombrello, "
            "1:chiave, 0:palloncino",
        ),
        _colors("rosso/rossa, arancione, giallo/gialla, verde, blu, viola, nero/nera, bianco/bianca"),
        {"small": _forms("piccolo/piccola"), "large": _forms("grande")},
        _settings(
            "nella neve/su un campo innevato, nel cielo notturno/sotto un cielo stellato, nel prato/sull'erba, "
            "sul mare/in riva al mare, nel deserto/sulla sabbia del deserto, "
            "davanti a una parete liscia/davanti a una parete vuota",
        ),
        ("un", "una"),
        (
            "Guarda {a} {thing} {color} {where}, che è {size}",
            "Ecco {a} {thing} {color} e {size} {where}",
            "Questa è l'immagine di {a} {thing} {color} {where}",
            "Si vede {a} {thing} {size} di colore {plain_color} {where}",
            "Disegno di {a} {size} {thing} {color} {where}",
            "C'è {a} {thing} {color} molto {size} {where}",
        ),
    ),
    "pl": CaptionLanguage(
        _things(
            "1:gwiazda, 0:dom, 1:ryba, 2:drzewo, 0:samochód, 0:księżyc, 2:serce, 1:łódka, 0:kwiat, 0:grzyb, "
            "1:filiżanka, 0:parasol, "
            "0:klucz, 0:balon",
        ),
        _colors(
            "czerwony/czerwona/czerwone, pomarańczowy/pomarańczowa/pomarańczowe, żółty/żółta/żółte, "
            "zielony/zielona/zielone, "
            "niebieski/niebieska/niebieskie, fioletowy/fioletowa/fioletowe, czarny/czarna/czarne, "
            "biały/biała/białe",
        ),
        {"small": _forms("mały/mała/małe"), "large": _forms("duży/duża/duże")},
        _settings(
            "na śniegu/na zaśnieżonym polu, na nocnym niebie/pod gwiaździstym niebem, na łące/w wysokiej trawie, "
            ""
            "na morzu/nad morzem, na pustyni/na piasku pustyni, na tle gładkiej ściany/przed pustą ścianą",
        ),
        ("jeden", "jedna", "jedno"),
        (
            "{size} {color} {thing} {where}",
            "To jest {size} {color} {thing} {where}",
            "Na obrazku jest {size} {color} {thing} {where}",
            "Oto {size} {color} {thing} {where}",
            "Tylko {a} {color} {thing} {where}",
            "Obrazek na stronie: {size} {color} {thing} {where}",
        ),
    ),
    "ru": CaptionLanguage(
        _things(
            "1:звезда, 0:дом, 1:рыба, 2:дерево, 1:машина, 1:луна, 2:сердце, 1:лодка, 0:цветок, 0:гриб, 1:чашка, "
            "0:зонт, 0:ключ, 0:шарик",
        ),
        _colors(
            "красный/красная/красное, оранжевый/оранжевая/оранжевое, жёлтый/жёлтая/жёлтое, "
            "зелёный/зелёная/зелёное, "
            "синий/синяя/синее, фиолетовый/фиолетовая/фиолетовое, чёрный/чёрная/чёрное, белый/белая/белое",
        ),
        {"small": _forms("маленький/маленькая/маленькое"), "large": _forms("большой/большая/большое")},
        _settings(
            "на снегу/на заснеженном поле, на ночном небе/под звёздным небом, на лугу/в высокой траве, "
            "в море/у моря, в пустыне/на песке пустыни, на фоне простой стены/перед пустой стеной",  # noqa: RUF001 - Russian
        ),
        ("один", "одна", "одно"),
        (
            "{size} {color} {thing} {where}",
            "Это {size} {color} {thing} {where}",
            "На картинке {size} {color} {thing} {where}",  # noqa: RUF001 - Russian
            "Вот {size} {color} {thing} {where}",
            "Только {a} {color} {thing} {where}",
            "Здесь виден рисунок: {color} {thing} {where}",
        ),
    ),
    "zh": CaptionLanguage(
        # The measure word stands before the noun.
        _things(
            "0:颗|星星, 0:座|房子, 0:条|鱼, 0:棵|树, 0:辆|汽车, 0:轮|月亮, "
            "0:颗|爱心, 0:艘|小船, 0:朵|花, 0:个|蘑菇, 0:个|杯子, 0:把|雨伞, 0:把|钥匙, 0:个|气球",
        ),
        _colors("红色, 橙色, 黄色, 绿色, 蓝色, 紫色, 黑色, 白色"),
        {"small": _forms("很小"), "large": _forms("很大")},
        _settings(
            "雪地里/白雪中, 夜空中/星空下, 草地上/草原上, 海面上/大海边, 沙漠里/沙漠的沙子上, 一面素色的墙前/空白的墙前"
        ),
        ("一", "一", "一"),
        (
            "{where}有一{measure}{size}的{color}{thing}",
            "这是{where}的一{measure}{color}{thing}",
            "图片里是{where}一{measure}{size}的{color}{thing}",
            "我们在{where}看到一{measure}{color}的{thing}",
            "图中{where}的这{measure}{color}{thing}看起来{size}",
        ),
    ),
}
LANGUAGES: tuple[str, ...] = tuple(WORDS)


def caption(scene: Scene, language: str, rng: np.random.Generator) -> str:
    """Return a sentence about ``scene`` in ``language``: it names thing and color, mostly also size and setting."""
    template = int(rng.integers(len(WORDS[language].templates)))
    return sentence(scene, language, WORDS[language].templates[template], int(rng.integers(2)))


def sentence(scene: Scene, language: str, template: str, wording: int) -> str:
    """Return ``template`` with the words for ``scene`` in ``language``; ``wording``: 0 or 1, that of the setting."""
    words = WORDS[language]
    noun, gender = words.things[scene.thing]
    measure, _, noun = noun.rpartition("|")
    text = template.format(
        a=words.articles[gender],
        size=words.sizes[scene.size][gender],
        color=words.colors[scene.color][gender],
        # "de color rojo": the color's own gender, not the thing's.
        plain_color=words.colors[scene.color][0],
        thing=noun,
        measure=measure,
        where=words.settings[scene.setting][wording],
    )
    return text[0].upper() + text[1:]


SCENE_CODES = (
    "{thing}-{color}-{size}_{n:04d}.jpg",
    "{color}_{thing}_{n:05d}.png",
    "{n:05d}_{thing}_{color}.jpg",
    "{COLOR}_{THING}_{n:05d}",
    "{n:04d}-{m:03d}_{thing}-{color}.webp",
    "{n:05d}-{thing}-{color}-{m:03d}.png",
)
BARE_CODES = (
    "DSC_{n:05d}.JPG",
    "SKU {n:05d}-{letter}4 / {m:03d}",
    "CRW-2019{m:04d}_{n:06d}",
    "{letter}{n:05d}-{m:03d}-{n:05d}",
    "WP-{m:03d}/{n:05d}-{letter}{letter}",
    "{n:05d}x{m:03d}_{letter}.tif",
)


def code_caption(scene: Scene | None, rng: np.random.Generator) -> str:
    """Return a text in no language: a file name with thing and color, or without a scene a bare code."""
    number, short = int(rng.integers(100_000)), int(rng.integers(1_000))
    letter = "ABCDEFGHKLMNPRSTUVWXYZ"[int(rng.integers(22))]
    if scene is None:
        return str(rng.choice(BARE_CODES)).format(n=number, m=short, letter=letter)
    words = {"thing": scene.thing, "color": scene.color, "size": scene.size}
    words |= {name.upper(): word.upper() for name, word in words.items()}
    return str(rng.choice(SCENE_CODES)).format(n=number, m=short, **words)
