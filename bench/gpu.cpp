// bench_gpu [--list | --once] [FILTER...]: times the GPU's cases whose names contain a filter (all without one). --once
// runs one step of each between a profiler's start and stop instead (scripts/gpu_profile).
//
//     name                                  eager ms  graph ms  TFLOP/s   GB/s   peak MB
//
// ms: the median over repetitions of many steps between two synchronisations. graph: one step captured as a cuda::Graph
// and replayed. Rates are of the faster; peak MB is the most memory in use above what the process held before the case.
#include "gpu.h"

#include <cuda_profiler_api.h>
#include <weft/cuda/graph.h>
#include <weft/cuda/runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

namespace weft::bench::gpu {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void add_attention_cases();
void add_elementwise_cases();
void add_fft_cases();
void add_matmul_cases();
void add_model_cases();
void add_rows_cases();
void add_runtime_cases();

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Median time of one step in milliseconds.
double measure(const Step& step) {
  for (int i = 0; i < 3; ++i) step();
  cuda::synchronize();
  double start = seconds();
  step();
  cuda::synchronize();
  const int steps = std::clamp(static_cast<int>(0.02 / (seconds() - start)), 1, 200);
  std::vector<double> times;
  for (int repetition = 0; repetition < 7; ++repetition) {
    start = seconds();
    for (int i = 0; i < steps; ++i) step();
    cuda::synchronize();
    times.push_back((seconds() - start) / steps * 1e3);
  }
  std::nth_element(times.begin(), times.begin() + 3, times.end());
  return times[3];
}

void run(const Case& c) {
  empty_cache(Device::cuda());
  reset_peak_memory(Device::cuda());
  const double before = static_cast<double>(memory_stats(Device::cuda()).in_use);
  manual_seed(0);
  double eager = 0, graph = 0, peak = 0;
  std::string problem;
  try {
    const Step step = c.prepare();
    eager = measure(step);
    peak = (static_cast<double>(memory_stats(Device::cuda()).peak) - before) / 1e6;
    try {
      if (c.capturable) {
        cuda::Graph captured(step);
        graph = measure([&] { captured.run(); });
      }
    } catch (const Error& e) {
      problem = e.what();
    }
  } catch (const Error& e) {
    problem = e.what();
  }
  const double best = graph > 0 ? std::min(eager, graph) : eager;
  std::printf("%-44s %9.3f %9.3f %8.1f %7.0f %9.1f %s\n", c.name.c_str(), eager, graph, c.flops / best * 1e-9,
              c.bytes / best * 1e-6, peak, problem.c_str());
  std::fflush(stdout);
}

// One warm step, alone in what a profiler sees.
void run_once(const Case& c) {
  manual_seed(0);
  const Step step = c.prepare();
  for (int i = 0; i < 3; ++i) step();
  cuda::synchronize();
  cudaProfilerStart();
  step();
  cuda::synchronize();
  cudaProfilerStop();
}

int main(int argc, char** argv) {
  set_default_device(Device::cuda());
  add_elementwise_cases();
  add_rows_cases();
  add_matmul_cases();
  add_attention_cases();
  add_fft_cases();
  add_runtime_cases();
  add_model_cases();
  const bool list = argc > 1 && std::strcmp(argv[1], "--list") == 0,
             once = argc > 1 && std::strcmp(argv[1], "--once") == 0;
  const int first = list || once ? 2 : 1;
  if (first == 1)
    std::printf("%-44s %9s %9s %8s %7s %9s\n", "case", "eager ms", "graph ms", "TFLOP/s", "GB/s", "peak MB");
  int matched = 0;
  for (const Case& c : cases()) {
    bool wanted = argc == first;
    for (int i = first; i < argc; ++i) wanted = wanted || c.name.find(argv[i]) != std::string::npos;
    if (!wanted) continue;
    ++matched;
    if (list)
      std::puts(c.name.c_str());
    else if (once)
      run_once(c);
    else
      run(c);
  }
  return matched ? 0 : 1;
}

}  // namespace
}  // namespace weft::bench::gpu

int main(int argc, char** argv) {
  try {
    return weft::bench::gpu::main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_gpu: %s\n", e.what());
    return 1;
  }
}
