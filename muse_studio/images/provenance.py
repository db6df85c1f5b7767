"""What a picture says of itself: that it was generated, by which software, weights and recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from muse_studio.recipe.sources import PICTURE_KEY, WEIGHTS_KEY, webp_exif
from muse_studio.recipe.tree import to_yaml
from muse_studio.runtime import weights
from muse_studio.runtime.files import replacing, unwritable

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

SOFTWARE = "muse_studio"
PLUGINS_KEY = "muse_plugins"
"""The PNG text key of plugins with their versions, a line each."""

_XMP_KEY = "XML:com.adobe.xmp"  # XMP specification, part 3, 1.1.5: the keyword of a PNG's packet
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE = f"{_SOURCE}trainedAlgorithmicMedia", f"{_SOURCE}compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source types: all pixels are a model's; or some are another picture's."""

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
{properties}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Provenance:
    """Where a picture comes from.

    recipe: draws it again. plugins: each that took part, with its version. edited: it has pixels of another picture.
    prompt: what was asked for, where the recipe does not say.
    """

    recipe: dict[str, Any] | None = None
    plugins: dict[str, str] | None = None
    edited: bool = False
    prompt: str = ""

    def xmp(self) -> str:
        """An XMP packet with IPTC's properties of generated pictures (Photo Metadata Standard 2025.1)."""
        used = list(dict.fromkeys(address for _, address in _weights(self.recipe)))
        properties = {
            "xmp:CreatorTool": f"{SOFTWARE} {_version()}",
            "Iptc4xmpExt:DigitalSourceType": COMPOSITE if self.edited else GENERATED,
            "Iptc4xmpExt:AISystemUsed": f"{SOFTWARE} with {', '.join(used)}" if used else SOFTWARE,
            "Iptc4xmpExt:AISystemVersionUsed": _version(),
            "Iptc4xmpExt:AIPromptInformation": self._prompt(),
        }
        lines = [f"   <{name}>{escape(_NO_XML.sub('�', text))}</{name}>" for name, text in properties.items() if text]
        return _PACKET.format(properties="\n".join(lines))

    def png(self) -> PngInfo:
        """The text of a PNG in sRGB, which `muse run picture.png` reads where there is a recipe."""
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add(b"sRGB", b"\0")  # what the pixels' colours are; 0 is the perceptual intent (PNG, 11.3.2.5)
        text.add_text("Software", SOFTWARE)
        text.add_itxt(_XMP_KEY, self.xmp())
        if self.recipe is not None:
            text.add_itxt(PICTURE_KEY, to_yaml(self.recipe))
        if self.plugins is not None:
            text.add_itxt(PLUGINS_KEY, "\n".join(f"{name} {each}" for name, each in sorted(self.plugins.items())))
        if found := list(_weights(self.recipe)):
            text.add_itxt(WEIGHTS_KEY, "\n".join(f"{path} {address}{_checksum(address)}" for path, address in found))
        return text

    def webp(self) -> dict[str, Any]:
        """Settings to save a WebP with: the packet, and the recipe in Exif."""
        return {"xmp": self.xmp().encode()} | ({} if self.recipe is None else {"exif": webp_exif(to_yaml(self.recipe))})

    def _prompt(self) -> str:
        recipe = self.recipe or {}
        asked = recipe.get("prompt", self.prompt)
        lines = [asked] if isinstance(asked, str) else list(asked)
        away = recipe.get("negative", "")
        return "\n".join([*lines, *([f"negative: {away}"] if away else [])])


def write_png(image: Image.Image, path: Path, provenance: Provenance) -> None:
    """Write a picture, or a sheet of several, in place of what is there, whole or not at all.

    Raises UserError where the disk refuses.
    """
    try:
        with replacing(path) as aside:
            image.save(aside, "PNG", pnginfo=provenance.png())
    except OSError as error:
        raise unwritable(path, error, "choose another place") from error


def says_it_is_ours(path: Path) -> bool:
    """Whether a file is a PNG of `write_png`, by what it says of itself; False where it can't be read."""
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return isinstance(picture, PngImageFile) and picture.text.get("Software") == SOFTWARE
    except Exception:  # pillow's readers raise whatever a damaged file leads them to
        return False


def _weights(table: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every `weights` of a recipe that is an address, with the dotted path of its table."""
    if isinstance(table, list):
        for index, each in enumerate(table):
            yield from _weights(each, f"{path}[{index}]")
    elif isinstance(table, dict):
        for key, each in table.items():
            if key == "weights" and isinstance(each, str):
                yield path, each
            else:
                yield from _weights(each, f"{path}.{key}" if path else key)


@cache
def _version() -> str:
    return version("muse-studio")


def _checksum(address: str) -> str:
    """ " sha256:..." of what an address names, empty where that is not cheaply known or said by the address itself."""
    found = None if "#sha256=" in address else weights.checksum(address)
    return f" sha256:{found}" if found else ""
