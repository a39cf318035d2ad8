"""Upload of a folder to the Hugging Face hub, in one commit."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eclipse_pl.files import json_bytes
from eclipse_pl.priors.released import RULE, SPACE, WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LIST = "published_files.json"
"""In a repository: the names of all files that `publish` wrote, by which the next one knows them from the user's own."""
OWN = {
    *("README.md", "training_config.yaml", "samples.png", "model_index.json", "scheduler/scheduler_config.json"),
    *(f"prior/{name}" for name in (RULE, SPACE, WEIGHTS, "config.json")),
}
"""Files that only `publish` writes, also where no list names them: read with another prior, they would change it."""


def upload(folder: Path, repository: str, private: bool) -> str:
    """Create the repository if need be, and put the files of a folder into it in one commit; return its address.

    Files that an earlier `publish` wrote and the folder lacks are removed: the rule or index of another prior would be read.
    Files that the user added stay.
    Large files travel first and are kept by the hub, so a second try sends only those that are missing. Readers see nothing of
    a try that failed.

    Raises:
        ValueError: There is no token, no network, no permission, the name belongs to something else, or the repository is
            public and ``private`` is asked for.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        require_owner(api.whoami(), repository)
        if not api.repo_exists(repository):
            api.create_repo(repository, private=private)
        about, old = api.model_info(repository), set(api.list_repo_files(repository)) - {".gitattributes"}
        require_own(old, about.tags or [], repository)
        if private and not about.private:
            raise ValueError(f"{repository} is public. Make it private in its settings on the hub, or leave out --private.")
        new: dict[str, Path | bytes] = {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
        }
        former = OWN | (listed(api, repository) if LIST in old else set())
        new[LIST] = json_bytes(sorted([*new, LIST]))
        changes = [CommitOperationAdd(name, content) for name, content in new.items()]
        removed = [CommitOperationDelete(name) for name in sorted(former & old - set(new))]
        # `upload_folder` may split its upload into several commits
        done = api.create_commit(repository, [*changes, *removed], commit_message="A prior trained with eclipse_pl")
    except LocalTokenNotFoundError as error:
        raise ValueError(
            "There is no token of the hub on this machine. Run `hf auth login` with a token that may write, or set HF_TOKEN."
        ) from error
    except ValueError:
        raise
    except Exception as error:  # the hub's client raises many kinds of errors
        refused = isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code in (401, 403)
        if refused:
            raise ValueError(
                f"The hub refuses this token for {repository}. Run `hf auth login` with a token that may write."
            ) from error
        raise ValueError(
            f"The hub did not take {repository} ({first_line(error)}). Nothing was published. The same command sends what is "
            "missing; `--to ./FOLDER` needs no network."
        ) from error
    return str(done.repo_url)


def listed(api: HfApi, repository: str) -> set[str]:
    """The files that an earlier `publish` wrote; none where its list is damaged, for they may be the user's."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(api.hf_hub_download(repository, LIST))
    except LocalEntryNotFoundError as error:  # a ValueError, for a line that dropped
        raise ConnectionError(first_line(error)) from error
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return set()
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def require_own(files: Collection[str], tags: Collection[str], repository: str) -> None:
    """Raise ValueError for a repository with files that `publish` has not written."""
    if files and "eclipse_pl" not in tags:
        raise ValueError(
            f"{repository} holds something that `publish` has not written. Choose another name, or delete the repository."
        )


def require_owner(whoami: dict[str, Any], repository: str) -> None:
    """Raise ValueError for a repository of somebody else, before anything is sent."""
    names = [str(whoami["name"]), *(str(one["name"]) for one in whoami.get("orgs") or [])]
    if repository.partition("/")[0] not in names:
        homes = " and ".join(f"{name}/..." for name in names)
        raise ValueError(f"--to {repository}: your token is that of {names[0]}, who may write to {homes}.")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
