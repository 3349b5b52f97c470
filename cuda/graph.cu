// Capturing a step and replaying it. While a thread captures, its stream on the device is a private one in capture
// mode, its memory there comes from the graph's arena, and what changes between replays is read from slots.
#include <weft/cuda/graph.h>
#include <weft/ops/matmul.h>
#include <weft/cuda/state.cuh>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

namespace weft::cuda {

Capture*& capturing() {
  thread_local Capture* current = nullptr;
  return current;
}

// --- what changes between replays ------------------------------------------------------------------------------------

const void* replay_slot(const void* now, size_t bytes, std::function<void(void*)> next) {
  Capture* c = capturing();
  if (!c) return nullptr;
  check(c->slots.size() < kMaxSlots, "graph: more than ", kMaxSlots, " values that change between replays");
  Slot& slot = c->slots.emplace_back();
  std::memcpy(slot.value, now, bytes);
  slot.next = std::move(next);
  return c->slot_memory + (c->slots.size() - 1) * kSlotBytes;
}

PhiloxAt philox_at(Generator::State at) {
  Capture* c = capturing();
  if (!c) return {{at, nullptr}, 0};
  for (Draws& d : c->draws) {
    if (d.start.seed != at.seed) continue;
    if (at.offset < d.start.offset) return {{at, nullptr}, 0};  // drawn before the capture: the same in every replay
    if (!d.slot) {
      d.slot = static_cast<const Generator::State*>(replay_slot(
          &d.start, sizeof d.start, [g = d.generator](void* to) { *static_cast<Generator::State*>(to) = g->state(); }));
    }
    return {{d.start, d.slot}, at.offset - d.start.offset};
  }
  fail(
      "graph: a captured step draws from a generator that the graph does not know, or that it reseeds: name it in "
      "GraphOptions::generators, reseed outside");
}

namespace {

constexpr int kSlotsALaunch = 120;  // what fits in a kernel's arguments
struct SlotValues {
  uint4 half[kSlotsALaunch][kSlotBytes / 16];
};

__global__ void write_slots_kernel(SlotValues values, uint4* slots, int n) {
  const int i = static_cast<int>(threadIdx.x), slot = i / 2;
  if (slot < n) slots[i] = values.half[slot][i % 2];
}

void write_slots(const std::vector<Slot>& slots, unsigned char* memory) {
  for (size_t first = 0; first < slots.size(); first += kSlotsALaunch) {
    const size_t n = std::min<size_t>(kSlotsALaunch, slots.size() - first);
    SlotValues values;
    for (size_t i = 0; i < n; ++i) std::memcpy(values.half[i], slots[first + i].value, kSlotBytes);
    write_slots_kernel<<<1, 2 * kSlotsALaunch, 0, stream()>>>(
        values, reinterpret_cast<uint4*>(memory + first * kSlotBytes), static_cast<int>(n));
    check_cuda(cudaGetLastError(), "graph");
  }
}

// The calling thread captures for the scope: a stream of its own, the arena's memory, the slots.
class CaptureScope {
 public:
  // warm: the same step has run just before.
  CaptureScope(Capture& c, bool warm) : arena_(*c.arena), device_(c.device), stream_(borrow_stream(c.device)) {
    const cudaError_t begun = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed);
    if (begun != cudaSuccess) return_stream(device_, stream_);
    check_cuda(begun, "graph");
    before_ = std::exchange(override_stream(device_.index), stream_);
    capturing() = &c;
    Autocast::forget(warm);  // what was converted before would not be converted again in a replay
  }
  // Throws away what was captured if finish() has not been reached.
  ~CaptureScope() {
    cudaGraph_t graph = nullptr;
    if (capturing()) leave(graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
  }
  cudaGraph_t finish() {
    cudaGraph_t graph = nullptr;
    check_cuda(leave(graph), "graph");
    return graph;
  }

 private:
  cudaError_t leave(cudaGraph_t& graph) {
    capturing() = nullptr;
    Autocast::forget();  // what is converted in here exists once the graph has run
    override_stream(device_.index) = before_;
    arena_.close();
    const cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    return_stream(device_, stream_);
    return status;
  }
  Arena& arena_;
  Device device_;
  cudaStream_t stream_, before_ = nullptr;
};

}  // namespace

// --- the graph -------------------------------------------------------------------------------------------------------

struct Graph::Impl {
  std::function<void()> step;
  GraphOptions options;
  std::thread::id owner = std::this_thread::get_id();
  int runs = 0;
  Capture recorded;
  cudaGraphExec_t exec = nullptr;
  size_t nodes = 0;
  bool launched = false;

  void capture();
  cudaGraph_t record(Capture& c);
  void next_values();
  void replay();
  void drop();
};

Graph::Graph(std::function<void()> step, GraphOptions options) : impl_(std::make_unique<Impl>()) {
  require(options.device);
  check(options.warmup >= 0, "graph: warmup must not be negative, got ", options.warmup);
  impl_->step = std::move(step);
  impl_->options = std::move(options);
}

Graph::~Graph() { impl_->drop(); }

void Graph::run() {
  Impl& g = *impl_;
  check(std::this_thread::get_id() == g.owner, "graph: run by another thread than the one that made it");
  check(!capturing(), "graph: a graph cannot be run inside a step that is being captured");
  DeviceScope scope(g.options.device);
  if (g.exec) {
    g.next_values();
  } else if (g.runs++ < g.options.warmup) {
    return g.step();
  } else {
    g.capture();
  }
  g.replay();
}

bool Graph::captured() const { return impl_->exec != nullptr; }
size_t Graph::memory() const { return impl_->recorded.arena ? impl_->recorded.arena->bytes() : 0; }
size_t Graph::nodes() const { return impl_->nodes; }
bool Graph::recording() { return capturing() != nullptr; }
void Graph::reset() { impl_->drop(); }

void Graph::Impl::capture() {
  const Device device = options.device;
  Capture fresh{device, std::make_shared<Arena>(device), nullptr, {}, {}};
  std::vector<Generator*> generators = {&default_generator()};
  generators.insert(generators.end(), options.generators.begin(), options.generators.end());
  for (Generator* g : generators) {
    check(g, "graph: a generator is null");
    for (const Draws& d : fresh.draws)
      check(d.generator == g || d.start.seed != g->state().seed, "graph: two generators have the seed ", d.start.seed);
    fresh.draws.push_back({g, g->state()});
  }
  fresh.slot_memory = static_cast<unsigned char*>(fresh.arena->own(kMaxSlots * kSlotBytes));

  drop();
  cudaGraph_t graph = record(fresh);
  const cudaError_t made = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphGetNodes(graph, nullptr, &nodes);
  cudaGraphDestroy(graph);
  check_cuda(made, "graph");
  check_cuda(cudaEventCreateWithFlags(&fresh.arena->replayed, cudaEventDisableTiming), "graph");
  check_cuda(cudaStreamSynchronize(state_of(device).stream), "graph");  // the arena's memory is there for every stream
  recorded = std::move(fresh);
}

// Runs the step with all that it asks of the device recorded. After an error the generators are where they were.
cudaGraph_t Graph::Impl::record(Capture& c) {
  try {
    CaptureScope scope(c, options.warmup > 0);
    step();
    for (Draws& d : c.draws) {
      check(d.generator->state().seed == d.start.seed, "graph: the captured step reseeds a generator");
      d.used = d.generator->state().offset - d.start.offset;
    }
    return scope.finish();
  } catch (...) {
    for (const Draws& d : c.draws) d.generator->set_state(d.start);
    throw;
  }
}

void Graph::Impl::next_values() {
  for (Slot& slot : recorded.slots) slot.next(slot.value);
  for (const Draws& d : recorded.draws) {
    const Generator::State at = d.generator->state();
    d.generator->set_state({at.seed, at.offset + d.used});
  }
}

void Graph::Impl::replay() {
  const cudaStream_t s = stream();
  if (launched) check_cuda(cudaStreamWaitEvent(s, recorded.arena->replayed), "graph");  // it may have run on another
  write_slots(recorded.slots, recorded.slot_memory);
  check_cuda(cudaGraphLaunch(exec, s), "graph");
  check_cuda(cudaEventRecord(recorded.arena->replayed, s), "graph");
  launched = true;
}

void Graph::Impl::drop() {
  if (exec) cudaGraphExecDestroy(exec);  // waits for nobody: a replay under way is let finish
  exec = nullptr;
  nodes = 0;
  launched = false;
  recorded = {};
}

}  // namespace weft::cuda
