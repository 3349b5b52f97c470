// The thread pool. One job runs at a time; it is announced through one atomic word, the gate:
//
//   gate = epoch (32 bits) | open (1 bit) | threads inside (31 bits)
//
// A worker enters an open gate by adding one, takes chunks from a shared counter until none is left, and leaves by
// subtracting one. The caller opens the gate, takes chunks as well, closes the gate, and waits only for those
// that are inside. A worker that wakes late finds the gate closed and costs nothing, and one that never comes (a thread
// that could not be started, a child process after fork) is not missed.
#include <weft/tensor/parallel.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace weft {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr uint64_t kEpoch = uint64_t{1} << 32;
// About 100 µs. A worker that spins joins a job within 0.1 µs, one that sleeps needs 3 to 20.
constexpr int kSpins = 4000;

thread_local bool in_parallel = false;

void spin_pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int64_t process_id() {
#if defined(__unix__) || defined(__APPLE__)
  return getpid();
#else
  return 0;
#endif
}

int default_threads() {
  static const int count = [] {
    if (const char* text = std::getenv("WEFT_NUM_THREADS")) {
      const long value = std::strtol(text, nullptr, 10);
      if (value >= 1 && value <= 4096) return static_cast<int>(value);
    }
    const unsigned hardware = std::thread::hardware_concurrency();
    return hardware == 0 ? 1 : static_cast<int>(hardware);
  }();
  return count;
}

void run_in_order(int64_t n, int64_t grain, detail::ChunkFn fn) {
  for (int64_t begin = 0; begin < n; begin += grain) {
    fn.call(fn.object, begin, n - begin < grain ? n : begin + grain);
  }
}

class Pool {
 public:
  /// False when another thread holds the pool, or when it has no worker: then nothing was run.
  bool run(int64_t n, int64_t grain, detail::ChunkFn fn);
  void stop();
  void set_wanted(int threads) {
    wanted_.store(threads);
    refused_.store(false);
  }
  int wanted() const { return wanted_.load(std::memory_order_relaxed); }

 private:
  struct Job {
    detail::ChunkFn fn{};
    int64_t n = 0, grain = 1, chunks = 0;
    std::atomic<int64_t> next{0};
    std::exception_ptr error;  // guarded by Pool::sleep_
  };

  void resize(int workers);
  void join_all();
  void worker(uint64_t seen_epoch);
  bool enter(uint64_t& seen_epoch);
  void leave();
  void work();
  void await_workers();

  std::mutex run_;  // held by the thread whose job runs, and to start or end workers
  Job job_;         // written by the holder of run_ while nobody is inside the gate
  std::atomic<uint64_t> gate_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
  int64_t owner_process_ = 0;
  std::atomic<int> spins_{kSpins};

  std::mutex sleep_;  // guards the two condition variables
  std::condition_variable job_posted_, job_left_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};

  std::atomic<int> wanted_{default_threads()};
  std::atomic<bool> refused_{false};  // the system gave fewer threads than wanted: do not ask at every job
};

bool Pool::run(int64_t n, int64_t grain, detail::ChunkFn fn) {
  const std::unique_lock<std::mutex> hold(run_, std::try_to_lock);
  if (!hold) return false;
  const int workers = wanted() - 1;
  if (static_cast<int>(workers_.size()) != workers && !refused_.load()) resize(workers);
  if (workers_.empty()) return false;

  job_.fn = fn;
  job_.n = n;
  job_.grain = grain;
  job_.chunks = (n - 1) / grain + 1;
  job_.next.store(0, std::memory_order_relaxed);
  gate_.store(((gate_.load(std::memory_order_relaxed) | kInside | kOpen) + 1) |
              kOpen);  // the next epoch, nobody inside
  if (sleepers_.load() > 0) {
    { const std::lock_guard<std::mutex> lock(sleep_); }
    job_posted_.notify_all();
  }

  in_parallel = true;
  work();
  in_parallel = false;
  await_workers();

  const std::exception_ptr error = std::exchange(job_.error, nullptr);
  if (error) std::rethrow_exception(error);
  return true;
}

/// Takes chunks until none is left. Never throws: an exception of fn is kept for the caller.
void Pool::work() {
  for (;;) {
    const int64_t chunk = job_.next.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= job_.chunks) return;
    const int64_t begin = chunk * job_.grain;
    try {
      job_.fn.call(job_.fn.object, begin, job_.n - begin < job_.grain ? job_.n : begin + job_.grain);
    } catch (...) {
      job_.next.store(job_.chunks, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(sleep_);
      if (!job_.error) job_.error = std::current_exception();
    }
  }
}

void Pool::await_workers() {
  if ((gate_.fetch_and(~kOpen) & kInside) == 0) return;
  for (int i = 0, spins = spins_.load(std::memory_order_relaxed); i < spins; ++i) {
    if ((gate_.load(std::memory_order_acquire) & kInside) == 0) return;
    spin_pause();
  }
  std::unique_lock<std::mutex> lock(sleep_);
  caller_sleeps_.store(true);
  job_left_.wait(lock, [&] { return (gate_.load() & kInside) == 0; });
  caller_sleeps_.store(false);
}

bool Pool::enter(uint64_t& seen_epoch) {
  uint64_t gate = gate_.load();
  while (gate / kEpoch != seen_epoch && (gate & kOpen) != 0) {
    if (gate_.compare_exchange_weak(gate, gate + 1)) {
      seen_epoch = gate / kEpoch;
      return true;
    }
  }
  return false;
}

void Pool::leave() {
  const uint64_t gate = gate_.fetch_sub(1) - 1;
  if ((gate & (kOpen | kInside)) == 0 && caller_sleeps_.load()) {
    { const std::lock_guard<std::mutex> lock(sleep_); }
    job_left_.notify_one();
  }
}

void Pool::worker(uint64_t seen_epoch) {
  in_parallel = true;
  while (!stopping_.load()) {
    bool inside = false;
    for (int i = 0, spins = spins_.load(std::memory_order_relaxed);
         i < spins && !inside && !stopping_.load(std::memory_order_relaxed); ++i) {
      inside = enter(seen_epoch);
      if (!inside) spin_pause();
    }
    if (!inside) {
      std::unique_lock<std::mutex> lock(sleep_);
      sleepers_.fetch_add(1);
      job_posted_.wait(lock, [&] { return stopping_.load() || (inside = enter(seen_epoch)); });
      sleepers_.fetch_sub(1);
    }
    if (inside) {
      work();
      leave();
    }
  }
}

void Pool::join_all() {
  if (owner_process_ != process_id()) {  // in the child of a fork: the workers exist in the parent only
    for (std::thread& thread : workers_) thread.detach();
  } else {
    stopping_.store(true);
    { const std::lock_guard<std::mutex> lock(sleep_); }
    job_posted_.notify_all();
    for (std::thread& thread : workers_) thread.join();
    stopping_.store(false);
  }
  workers_.clear();
}

void Pool::resize(int workers) {
  if (static_cast<int>(workers_.size()) > workers) join_all();
  owner_process_ = process_id();
  // With more threads than cores, whoever spins keeps the one it waits for from running.
  spins_ = workers < static_cast<int>(std::thread::hardware_concurrency()) ? kSpins : 0;
  try {
    workers_.reserve(static_cast<size_t>(workers));
    while (static_cast<int>(workers_.size()) < workers) {
      workers_.emplace_back(&Pool::worker, this, gate_.load() / kEpoch);
    }
  } catch (const std::exception&) {  // std::system_error or std::bad_alloc: go on with the threads there are
    refused_.store(true);
  }
}

void Pool::stop() {
  const std::lock_guard<std::mutex> hold(run_);
  wanted_.store(1);
  join_all();
}

/// Never destroyed, so that a parallel_for in some other static destructor still finds it (and runs in order).
Pool& pool() {
  struct JoinAtExit {
    Pool* pool = new Pool;
    ~JoinAtExit() { pool->stop(); }
  };
  static Pool* const instance = [] {
    static JoinAtExit joiner;
    return joiner.pool;
  }();
  return *instance;
}

}  // namespace

namespace detail {

void parallel_chunks(int64_t n, int64_t grain, ChunkFn fn) {
  if (grain < 1) grain = 1;
  if (in_parallel || n <= grain || pool().wanted() <= 1 || !pool().run(n, grain, fn)) run_in_order(n, grain, fn);
}

}  // namespace detail

int num_threads() { return pool().wanted(); }

void set_num_threads(int n) { pool().set_wanted(n < 1 ? default_threads() : n); }

}  // namespace weft
