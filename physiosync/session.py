"""What surrounds a study's stages: one driver, its log, the object store, how errors are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from physiosync.driving import only_driver
from physiosync.errors import PhysioSyncError, RemoteError, StudyError
from physiosync.evidence import protocol_in_words
from physiosync.files import has_room, sweep
from physiosync.interruption import Interruption
from physiosync.mirror import Mirror
from physiosync.options import StudyOptions
from physiosync.progress import log, log_to
from physiosync.remote import Remote, outage_in, url_of
from physiosync.storage import without_password


@contextmanager
def driver_session(
    options: StudyOptions,
    mirrors: Sequence[Mirror],
    shards_url: str | None,
    interruption: Interruption,
) -> Iterator[None]:
    """Be a study's only driver, with a log, ready to be interrupted.

    Parameters
    ----------
    mirrors : of the study's folder, and of its folds'
    shards_url : where the shards lie, if in an object store

    Raises
    ------
    StudyError
        If another driver works on the study, or a disk is full.
    RemoteError
        If an object store can't be used, or stays away.
    """
    folder, storage, url = options.folder, options.storage_url, options.results_url
    for place in filter(None, (url, shards_url)):
        Remote(place, patient=False).check()
    log_to(folder / "study.log")
    with interruption.installed(), only_driver(folder, options.name, storage):
        if url is not None:
            for mirror in mirrors:
                mirror.pull()
            log_to(folder / "study.log")  # the earlier drivers', to be gone on with
            log.info("working copy of the results in %s", folder)
        log.info("results in %s, shards in %s", url or folder, url_of(options.shards_folder))
        log.info("trials in %s", without_password(storage))
        log.info("protocol %s", protocol_in_words(options.protocol))
        for place_here in (folder, options.shards_folder):
            sweep(place_here)
        try:
            yield
        except PhysioSyncError:
            raise
        except Exception as error:
            if outage := outage_in(error):
                raise outage from error
            # Ray meets a full disk in many ways: it also reads back what it could not write.
            if has_room(folder):
                raise
            raise StudyError(
                f"expected room on the disk of {folder}, found it full; what is done is kept, and "
                "the same command goes on after space is made"
            ) from error
        finally:
            with suppress(RemoteError):  # what is raised says more
                for mirror in mirrors:
                    mirror.push(patient=False)
