"""Where suites of prompts are published, and the files of the versions that this version of eclipse_pl was tested with."""

from __future__ import annotations

from dataclasses import dataclass, field

from eclipse_pl.prompts.compbench import FILES, LINES, OPTIONAL_FILES
from eclipse_pl.prompts.genai_bench import PROMPTS_NAME, SKILLS_NAME
from eclipse_pl.prompts.geneval import METADATA_NAME, TAGS
from eclipse_pl.prompts.geneval2 import GENEVAL2_NAME
from eclipse_pl.prompts.propositions import DPG, DSG


@dataclass(frozen=True)
class Upstream:
    """A suite of prompts. ``source`` is the URL of a folder of files, with {revision} for a commit."""

    source: str
    revision: str
    licence: str
    files: tuple[str, ...]
    optional: tuple[str, ...] = ()
    lines: dict[str, int] = field(default_factory=dict)
    """Of each file, in every revision."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each file, in ``revision``, where it is known."""
    prompts: int | None = None
    """Number of prompts in every revision, where the files' lines do not tell it."""


UPSTREAMS = {
    "compbench": Upstream(
        source="https://raw.githubusercontent.com/Karine-Huang/T2I-CompBench/{revision}/examples/dataset",
        revision="1b7094991a57f3c22abdd4f6e8ba6c1a15517073",
        licence="MIT, Copyright (c) 2023 HKU. Some prompts of color look like captions of MSCOCO (CC BY 4.0).",
        files=FILES,
        optional=OPTIONAL_FILES,
        lines=LINES,
        sha256={
            "color_val.txt": "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d",
            "color_val_seen.txt": "9b2859d9107b2ed4cae95808749de5ac3557a280eb79067a8ef55c4eec7711a9",
            "color_val_unseen.txt": "7fa6f76bb602df9624262ee819f0b1ede20c14880cbacfb7fe8ce79f8157b5c2",
            "shape_val.txt": "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae",
            "shape_val_seen.txt": "5581f4c8904e11b00fe6e33d2cc21a5822f59f39f43fa51479bc30aa6d458a4d",
            "shape_val_unseen.txt": "35b17a7b015405c5c96c51c5cd969a786b3855c48e6f68c184626f5db444d987",
            "texture_val.txt": "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f",
            "texture_val_seen.txt": "5548a49c68efefbbc88b2eb6dffd0f141373235370659158a5d15fdbd82c8c96",
            "texture_val_unseen.txt": "6035f7dd8fd9efd6fbeedef64b04e1f651e977b2a1b9c47365c9e4eed0edc27b",
            "spatial_val.txt": "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988",
            "3d_spatial_val.txt": "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9",
            "numeracy_val.txt": "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe",
            "non_spatial_val.txt": "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d",
            "complex_val.txt": "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4",
            "complex_val_spatial.txt": "6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02",
            "complex_val_action.txt": "d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e",
            "complex_val_spatialaction.txt": "e02ddc7fed812e6577e7386ec2137ce0a994a5ce19771661f68df7ac349a6ca9",
            "new_objects.txt": "f39a3d2ff6067d7738673cbf465dc659ccc750776162989a5d9916f1d5f3e231",
        },
    ),
    "geneval": Upstream(
        source="https://raw.githubusercontent.com/djghosh13/geneval/{revision}/prompts",
        revision="af4902f24d3ca90ebbb446dd9891a59e0f82725f",
        licence="MIT",
        files=(METADATA_NAME,),
        lines={METADATA_NAME: sum(TAGS.values())},
    ),
    "dpg": Upstream(
        source="https://raw.githubusercontent.com/TencentQQGYLab/ELLA/{revision}/dpg_bench",
        revision="3c228f1dc6c4d3cad0a47493816151a419f14db3",
        licence="Apache-2.0",
        files=(DPG.file,),
        prompts=1065,
    ),
    "dsg": Upstream(
        source="https://raw.githubusercontent.com/j-min/DSG/{revision}/dsg/data",
        revision="7330119a39f76ff90e619a8bd3ff321e71aa986b",
        licence="Apache-2.0. Its prompts come from ten other sets, some of them captions of images.",
        files=(DSG.file,),
        prompts=1060,
    ),
    "geneval2": Upstream(
        source="https://raw.githubusercontent.com/facebookresearch/GenEval2/{revision}",
        revision="a6e82d2289e8d418f27f0adee77908b07060eea3",
        licence="CC BY-NC 4.0: not for commercial use",
        files=(GENEVAL2_NAME,),
        sha256={GENEVAL2_NAME: "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43"},
        prompts=800,
    ),
    "genai_bench": Upstream(
        source="https://huggingface.co/datasets/BaiqiL/GenAI-Bench-1600/resolve/{revision}",
        revision="main",
        licence="Apache-2.0, as the card of BaiqiL/GenAI-Bench says",
        files=(PROMPTS_NAME, SKILLS_NAME),
        prompts=1600,
    ),
}
