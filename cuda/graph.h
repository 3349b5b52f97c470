// A captured step: what a function asks of the GPU, recorded once and asked again as one launch. A step of hundreds of
// small kernels then costs the host one call, and the GPU runs them back to back.
#pragma once

#include <weft/cuda/runtime.h>
#include <weft/ops/random.h>

#include <functional>
#include <memory>
#include <vector>

namespace weft::cuda {

struct GraphOptions {
  /// Calls that run as they are before the capture: they choose algorithms and make an optimiser's state. 0 is allowed.
  int warmup = 2;
  /// Generators that the step draws from, besides the default one of the thread that makes the graph.
  std::vector<Generator*> generators = {};
  Device device = Device::cuda();
};

/// Runs a step again and again: run() calls the function itself `warmup` times, records the next call and replays it
/// from then on. Each run() is one step: parameters, optimisers, generators and gradients are after it what they would
/// be after a plain call, to the bit.
///
///   Tensor batch = ..., loss;                                  // input and output outside, at fixed places
///   cuda::Graph step([&] {
///     optimizer.zero_grad();
///     loss = model(batch);
///     loss.backward();
///     optimizer.step();
///   });
///   for (...) { batch.copy_(next()); step.run(); }
///
/// What is replayed is the work on the device, on the memory it was recorded with: inputs are tensors of fixed places
/// to copy into; results are tensors that the function assigns, good until the next run(). The host's side is not
/// repeated: branches taken, shapes, bytes copied from pageable host memory are those of the recorded call. Page-locked
/// memory is read anew. What does follow the host are random draws (all generators listed, and reseeding them between
/// runs), an optimiser's step number and set_lr_scale. A gradient that is there before the step and added to in it is
/// not supported: begin the step with zero_grad.
///
/// A step that waits for the device (item, to(cpu), nonzero, printing) cannot be recorded: run() throws an Error that
/// names the operation; the device and its streams are as usable as before, values that the recorded call assigned are
/// not. Memory taken during the recording belongs to the graph, counts as in use, and is given back with the graph and
/// the last tensor in it. A graph is used by the thread that made it.
class Graph {
 public:
  explicit Graph(std::function<void()> step, GraphOptions options = {});
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void run();
  bool captured() const;
  /// Forgets what was recorded: the next run() records again (a new shape, another branch).
  void reset();
  size_t memory() const;  ///< bytes that the graph holds; 0 before the capture
  /// Whether the calling thread is recording a step right now.
  static bool recording();
  size_t nodes() const;  ///< launches, copies and fills of one replay; 0 before the capture

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::cuda
