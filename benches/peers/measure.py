"""Times one workload in PyTorch and prints a JSON line like the Rust side's."""
import json, resource, sys, time
import torch


def run(workloads):
    name, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    repeats, prepare = workloads[name]
    step = prepare()
    times = []
    for _ in range(2):
        step()
    while len(times) < repeats or sum(times) < 500:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"name": name, "ms": times[len(times) // 2], "min_ms": times[0], "threads": threads,
                      "peak_mb": round(peak), "version": "torch " + torch.__version__}))
