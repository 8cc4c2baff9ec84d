"""Certified artifacts to the Hugging Face hub, into a private repository; with a dry run the list of what would go there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sartor.errors import ModelError, Problem
from sartor.events import Event, Stage
from sartor.export.hub import Sent, files, require_name

if TYPE_CHECKING:
    from sartor.flow.export import Exported


def pushed(exported: Exported, repository: str, *, dry_run: bool, emit: Callable[[Event], None]) -> Exported:
    """Send what is certified; of several artifacts each goes into a folder of its name.

    Raises ModelError M205 for a wrong name, an artifact that failed, a file that holds a secret, or a hub that refuses.
    """
    require_name(repository)
    failed = [each.name for each in exported.artifacts if not each.certificate.passed]
    if failed:
        raise ModelError(Problem("M205", f"{failed[0]} failed its certificate, so nothing is sent"))
    several = len(exported.artifacts) > 1
    sent = [file for each in exported.artifacts for file in files(each.folder, f"{each.name}/" if several else "")]
    if not dry_run:
        emit(Stage("push", repository))
        _send(sent, repository)
    told = {
        "repository": repository,
        "dry_run": dry_run,
        "bytes": sum(file.size for file in sent),
        "files": [{"name": file.name, "bytes": file.size} for file in sent],
    }
    return replace(exported, push=told)


def _send(sent: Sequence[Sent], repository: str) -> None:
    """One commit. The token is the hub library's own: from its environment variable or its login."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    whole = [CommitOperationAdd(file.name, file.content or str(file.path)) for file in sent]
    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.create_commit(repository, whole, commit_message="Exported and certified by Sartor")
    except (HfHubHTTPError, OSError) as fault:
        what = f"the hub did not take it ({type(fault).__name__})"
        fix = "check the name, the network, and that you are logged in (hf auth login)"
        raise ModelError(Problem("M205", what, fix=fix)) from fault
