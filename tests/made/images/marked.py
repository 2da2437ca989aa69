"""Small drawn pictures in, the same with what an owner may write into them out: XMP everywhere, C2PA manifests."""

from __future__ import annotations

import io
import json
import struct
import zlib
from datetime import datetime
from typing import Any, Final

from PIL import Image, ImageDraw, PngImagePlugin

PLUS: Final = "http://ns.useplus.org/ldf/xmp/1.0/"
VOCABULARY: Final = "http://ns.useplus.org/ldf/vocab/"
TDM: Final = "http://www.w3.org/ns/tdmrep/"
RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

_XMP_HEAD: Final = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION_HEAD: Final = b"http://ns.adobe.com/xmp/extension/\0"


def picture(kind: str = "JPEG", **options: object) -> bytes:
    """Draw a red disc on grey, 64 x 48."""
    image = Image.new("RGB", (64, 48), "gray")
    ImageDraw.Draw(image).ellipse((16, 8, 48, 40), "red")
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def packet(inside: str = "", attributes: str = "", *, wrapped: bool = True) -> bytes:
    """Make an XMP packet of one description with these elements and attributes."""
    text = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:plus="{PLUS}" xmlns:tdm="{TDM}" {attributes}>{inside}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    )
    if wrapped:
        text = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{text}{" " * 100}<?xpacket end="w"?>'
    return text.encode()


def mining(value: str) -> bytes:
    """Make the packet that IPTC describes: plus:DataMining with a value of PLUS's vocabulary."""
    return packet(f"<plus:DataMining>{VOCABULARY}{value}</plus:DataMining>")


def with_xmp(kind: str, xmp: bytes) -> bytes:
    """Put a packet where the container has its place for it."""
    if kind == "GIF":
        # XMP specification, part 3, 1.1.2: an application extension with the packet as it is, and its own trailer.
        trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
        body = picture("GIF")
        return body[:-1] + b"!\xff\x0bXMP DataXMP" + xmp + trailer + body[-1:]
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return picture("PNG", pnginfo=info)
    if kind == "TIFF":
        return picture("TIFF", tiffinfo={700: xmp})
    return picture(kind, xmp=xmp)


def segment(marker: int, data: bytes) -> bytes:
    """Make a JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def extended_jpeg(xmp: bytes, pieces: int = 3, *, turned: bool = False) -> bytes:
    """Put a long packet into a JPEG as extended XMP, in pieces, if need be in another order."""
    guid, size = b"0123456789ABCDEF0123456789ABCDEF", len(xmp) // pieces + 1
    parts = [
        segment(0xE1, _EXTENSION_HEAD + guid + struct.pack(">II", len(xmp), start) + xmp[start : start + size])
        for start in range(0, len(xmp), size)
    ]
    main = segment(0xE1, _XMP_HEAD + packet(attributes='xmpNote:HasExtendedXMP="0123" xmlns:xmpNote="x:"'))
    body = picture("JPEG")
    return body[:2] + main + b"".join(reversed(parts) if turned else parts) + body[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """Make a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """Put a chunk into a PNG, behind its header."""
    body = picture("PNG")
    return body[:33] + chunk(kind, data) + body[33:]


def compressed_png(xmp: bytes) -> bytes:
    """Put a packet into a PNG as compressed text."""
    return with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(xmp))


def profile_png(xmp: bytes) -> bytes:
    """Put a packet into a PNG as older ImageMagick does: hexadecimal digits in compressed text."""
    lines = f"\nxmp\n{len(xmp):8d}\n{xmp.hex()}\n".encode()
    return with_chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(lines))


def signed(kind: str, entries: dict[str, Any] | None, *, label: str = "cawg.training-mining") -> bytes:
    """Sign a picture with a C2PA manifest, by a certificate made here; needs the library c2pa."""
    import c2pa

    drawn = {"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt"}
    assertions: list[dict[str, Any]] = [{"label": "c2pa.actions.v2", "data": {"actions": [drawn]}}]
    if entries is not None:
        assertions.append({"label": label, "data": {"entries": entries}})
    manifest = {"claim_generator_info": [{"name": "drawn", "version": "1"}], "assertions": assertions}
    quiet = {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}
    chain, key = _certificate()
    out = io.BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(quiet)) as context,
        c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain, key, None)) as signer,
        c2pa.Builder(json.dumps(manifest), context=context) as builder,
    ):
        builder.sign(signer, f"image/{kind.lower()}", io.BytesIO(picture(kind)), out)
    return out.getvalue()


def _certificate() -> tuple[bytes, bytes]:
    """Make the chain and the key of a signer as C2PA wants them, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    attribute, owner = x509.NameAttribute, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test")
    names = [x509.Name([owner, attribute(NameOID.COMMON_NAME, name)]) for name in ("root", "signer")]
    chain = b""
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        is_root = place == 0
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        builder = (
            x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1))  # noqa: DTZ001 - the library takes naive times as UTC
            .not_valid_after(datetime(2049, 1, 1))  # noqa: DTZ001 - as above
            .add_extension(x509.BasicConstraints(is_root, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=is_root, crl_sign=is_root, decipher_only=False, **usage
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not is_root:
            email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(email, critical=False)
        chain = builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + chain
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return chain, private
