// A benchmark case: a name (the contract with the PyTorch side in torch/) and a function that builds it and returns one
// step. Besides the time, a case reports peak_mb: the peak resident memory above what the process held before. Run a
// case in a process of its own, as scripts/bench does, for that number to be its own.
#pragma once

#include "step.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>

namespace weft::bench {

inline double resident_mb(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  }
  return 0;
}

/// flops: floating-point operations of one step, where a rate says something.
inline void add(const std::string& name, std::function<Step()> prepare, double flops = 0) {
  auto* b = benchmark::RegisterBenchmark(name.c_str(), [prepare, flops](benchmark::State& state) {
    manual_seed(0);
    (void)grad({sum(matmul(ones({256, 256}, {.requires_grad = true}), ones({256, 256})))}, {});  // starts the threads
    static const double before = resident_mb("VmRSS");  // once: the case runs several times
    const Step step = prepare();
    for (int i = 0; i < 3; ++i) step();
    for (auto _ : state) step();
    state.counters["peak_mb"] = resident_mb("VmHWM") - before;
    if (flops > 0)
      state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  });
  b->Unit(benchmark::kMillisecond)->UseRealTime();
}

/// `program --threads N` besides google-benchmark's own options.
inline int main(int argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--threads" && i + 1 < argc)
      set_num_threads(std::atoi(argv[++i]));
    else
      argv[kept++] = argv[i];
  }
  benchmark::Initialize(&kept, argv);
  if (benchmark::ReportUnrecognizedArguments(kept, argv)) return 1;
  return benchmark::RunSpecifiedBenchmarks() > 0 ? 0 : 1;
}

}  // namespace weft::bench
