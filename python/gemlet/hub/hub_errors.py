"""What the Hugging Face client raises, said so that a user knows what to do."""

import contextlib
from collections.abc import Iterator
from typing import Any

from gemlet.errors import FileError
from gemlet.forked import importing

_LOGIN = "log in with 'hf auth login', or set HF_TOKEN"


class UnreachableError(FileError):
    """The hub does not answer, or may not be asked."""


@contextlib.contextmanager
def explained(repo: str) -> Iterator[None]:
    """Turn the client's errors into a FileError. What the server wrote into its answer is not repeated."""
    with importing:
        from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableError(f"{repo}: is not in the cache, and HF_HUB_OFFLINE forbids downloading it") from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(repo, error.__cause__ or error) from error
    except errors.GatedRepoError as error:
        raise FileError(_gated(repo, _has_token(error))) from error
    except errors.HfHubHTTPError as error:
        status: int = error.response.status_code
        if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not _has_token(error)):
            raise FileError(f"{repo}: no such repository at {_endpoint()}, or it is private: {_LOGIN}") from error
        if status < 500:
            raise FileError(f"{repo}: {_refused(repo, status)}") from error
        raise UnreachableError(
            f"{repo}: the hub answers with an error ({status}); what was downloaded so far is kept"
        ) from error
    except errors.HTTPError as error:
        raise _unreachable(repo, error) from error


def _has_token(error: Any) -> bool:
    return "authorization" in error.response.request.headers


def _gated(repo: str, has_token: bool) -> str:
    page = f"{_endpoint()}/{repo}"
    if has_token:
        return (
            f"{repo}: is gated, and the account of your token may not read it: accept its terms at {page}; some owners "
            "approve each request by hand"
        )
    return f"{repo}: is gated: accept its terms at {page}, then {_LOGIN}"


def _refused(repo: str, status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses the token ({status}): {_LOGIN}, with one that may read {_endpoint()}/{repo}"
    if status == 404:
        return "a file that the hub lists is not there (404); try again"
    if status == 429:
        return f"the hub has had too many requests from here (429): try again later, or {_LOGIN}"
    return f"the hub refuses the request ({status})"


def _unreachable(repo: str, error: BaseException) -> UnreachableError:
    return UnreachableError(
        f"{repo}: {_endpoint()} cannot be reached ({type(error).__name__}); what was downloaded so far is kept"
    )


def _endpoint() -> str:
    with importing:
        from huggingface_hub import constants

    return str(constants.ENDPOINT)
