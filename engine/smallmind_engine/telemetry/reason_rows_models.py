"""What can be wrong with model files and their registry: rows of the table of reasons."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry.reason_rows import Reason
from smallmind_engine.telemetry.reasons import ReasonCode

MODEL_REASONS: Final[tuple[Reason, ...]] = (
    Reason(
        ReasonCode.GGUF_NOT_GGUF,
        "The file does not begin with the GGUF magic.",
        "Pass a `.gguf` file.",
    ),
    Reason(
        ReasonCode.GGUF_VERSION_UNSUPPORTED,
        "The file's GGUF version is neither 2 nor 3.",
        "Convert the model again with a current converter.",
    ),
    Reason(
        ReasonCode.GGUF_TRUNCATED,
        "The file ends before what its header announces.",
        "Download it again: compare its size and SHA-256.",
    ),
    Reason(
        ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
        "A count, length or offset in the header cannot be true for a file of this size.",
        "The file is damaged: download it again.",
    ),
    Reason(
        ReasonCode.GGUF_TYPE_UNKNOWN,
        "A metadata value or tensor has a type that is not known.",
        "Convert the model to one of the types that the error lists.",
    ),
    Reason(
        ReasonCode.GGUF_DUPLICATE_NAME,
        "Two metadata keys or two tensors have the same name.",
        "The file is damaged: convert the model again.",
    ),
    Reason(
        ReasonCode.GGUF_TENSOR_OUT_OF_FILE,
        "A tensor's bytes reach past the end of the file.",
        "The download is probably incomplete: compare its size and SHA-256.",
    ),
    Reason(
        ReasonCode.GGUF_TENSOR_OVERLAP,
        "Two tensors claim the same bytes.",
        "The file is damaged: convert the model again.",
    ),
    Reason(
        ReasonCode.GGUF_TENSOR_MISALIGNED,
        "A tensor does not begin at a multiple of the file's alignment.",
        "The file is damaged: convert the model again.",
    ),
    Reason(
        ReasonCode.GGUF_TENSOR_SHAPE,
        "A tensor's shape does not fit its type or its place in the model.",
        "The file is damaged or of another architecture than it says.",
    ),
    Reason(
        ReasonCode.GGUF_SPLIT_INCOMPLETE,
        "A part of a split model is missing or belongs to another model.",
        "Put all `-00001-of-0000N` parts of one model into one folder.",
    ),
    Reason(
        ReasonCode.GGUF_METADATA_MISSING,
        "A metadata key that the architecture needs is missing.",
        "Convert the model again.",
    ),
    Reason(
        ReasonCode.GGUF_METADATA_INVALID,
        "A metadata value has the wrong type or a value that cannot be.",
        "Convert the model again.",
    ),
    Reason(
        ReasonCode.MODEL_FILE_UNREADABLE,
        "The model file does not exist or cannot be opened.",
        "Check the path and its permissions.",
    ),
    Reason(
        ReasonCode.MODEL_TENSOR_MISSING,
        "A tensor that the architecture needs is not in the file.",
        "Convert the model again.",
    ),
    Reason(
        ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
        "The file's architecture is not one of those that smallmind runs.",
        "The error lists the architectures that work.",
    ),
    Reason(
        ReasonCode.MODEL_CANNOT_GENERATE,
        "The model is an encoder: it turns texts into vectors and predicts no next token.",
        "Use `engine.embed()`, or load a model that generates.",
    ),
    Reason(
        ReasonCode.MODEL_NAME_UNKNOWN,
        "The name is neither a file nor a model of the registry.",
        "`smallmind list` shows the names.",
    ),
    Reason(
        ReasonCode.DOWNLOAD_FAILED,
        "A model could not be fetched from its source.",
        "Check the network and the package registry's settings, then run it again.",
    ),
    Reason(
        ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH,
        "What was fetched does not have the expected size or SHA-256; it was deleted.",
        "Run it again; report it when it happens twice.",
    ),
    Reason(
        ReasonCode.PATH_OUTSIDE_CACHE,
        "A name would have led to a file outside the model cache.",
        "Use a plain model name.",
    ),
)
