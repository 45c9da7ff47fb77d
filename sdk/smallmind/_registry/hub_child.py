"""Run as a program by ``hub.py``: fetch one file with ``huggingface_hub`` into a folder.

Arguments: repository, path in the repository, folder. Writes one line of JSON with size and etag
before the download begins, and one with the file's path when it is done.
"""

from __future__ import annotations

import json
import sys


def main(repository: str, file_path: str, folder: str) -> None:
    """Do what the module says."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    about = get_hf_file_metadata(hf_hub_url(repository, file_path))
    _say({"size_bytes": about.size, "etag": about.etag})
    path = hf_hub_download(repository, file_path, revision=about.commit_hash, local_dir=folder)
    _say({"path": str(path)})


def _say(fact: dict[str, object]) -> None:
    sys.stdout.write("\n" + json.dumps(fact) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
