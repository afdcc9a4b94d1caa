"""Which networks there are, by name. Imports neither torch nor timm, so that `check` answers at once."""

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# name -> (family, its arguments). A family is a function of pipeline.models.families.
# plain: the widths of 3x3 convolutions; M halves the image, G averages it away, Fn is a hidden linear layer.
PLAIN = {
    "tiny_plain4_32": "16 16 M 32 32 G",
    "tiny_plain2_32": "16 M 32 G",
    "tiny_plain2_16": "8 M 16 G",
    "tiny_plain2_12": "6 M 12 G",
}
ZOO: dict[str, tuple[str, tuple]] = {name: ("plain", (layers,)) for name, layers in PLAIN.items()}


def known(arch: str) -> bool:
    """Whether a network of that name can be created; timm's names may carry a tag (resnet18.a1_in1k)."""
    return arch in ZOO or arch.split(".")[0] in timm_names()


def nearest(arch: str, n: int = 3) -> list[str]:
    """The names most like one that is not known."""
    return get_close_matches(arch, [*ZOO, *timm_names()], n=n, cutoff=0.5)


@cache
def timm_names() -> frozenset[str]:
    """Names that timm registers, read from its sources: importing it would cost seconds."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(
        name for file in sources for name in re.findall(r"@register_model\s+def (\w+)\(", file.read_text("utf-8"))
    )
