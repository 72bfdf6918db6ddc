"""`mtrain translate --ray`: all shards of a translation on a Ray cluster, and what joins them."""

from dataclasses import replace
from functools import partial

from mtrain.commands.merge_translation import merge_translation
from mtrain.commands.translate import Request, translate
from mtrain.distributed.cluster import Cluster, Work
from mtrain.distributed.shards import Shard, check_count
from mtrain.inference.load import LoadedRun


def translate_on_cluster(
    request: Request, address: str, num_shards: int, num_workers: int | None
) -> None:
    """Translate by shards, join them, and remove them. A worker loads the models once.

    The same command resumes after a kill: complete shards are left alone.
    """
    shards = Shard.all(num_shards)
    request.check()
    replace(request, shard=shards[0]).paths()  # refuse now what has no shards
    output = request.output_path
    assert output is not None
    check_count(output.resolve(), num_shards)
    with Cluster(address) as cluster:
        cluster.run("translating", shards, partial(_open, request), num_workers, may_use_gpus=True)
    merge_translation(output, keeps_shards=False)


def _open(request: Request) -> Work:
    return partial(_translate, request, request.load())


def _translate(request: Request, loaded: LoadedRun, shard: Shard) -> None:
    translate(replace(request, shard=shard), lambda: loaded)
