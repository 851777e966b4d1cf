"""One rank of gloo's all-reduce, for allreduce-processes.bench.ts.

    python3 gloo-allreduce.py RANK RANKS PORT ELEMENTS

Prints `ready` and the version of torch. Then, for each line of standard input, passes a barrier and
runs one all-reduce of f32; rank 0 prints the longest time of all ranks in ms.
"""

import os
import sys
import time

import torch
import torch.distributed as dist

rank, ranks, port, elements = map(int, sys.argv[1:])
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=ranks)
vector = torch.zeros(elements)
print("ready", torch.__version__, flush=True)
for _ in sys.stdin:
    vector.fill_(rank)
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(vector)
    seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    assert vector[elements - 1] == ranks * (ranks - 1) / 2
    if rank == 0:
        print(1000 * seconds.item(), flush=True)
