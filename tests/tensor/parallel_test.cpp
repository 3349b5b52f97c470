#include <doctest/doctest.h>
#include <weft/tensor/parallel.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace {

using weft::parallel_for;

/// Puts the number of threads back at the end of a test.
struct Threads {
  explicit Threads(int n) { weft::set_num_threads(n); }
  ~Threads() { weft::set_num_threads(0); }
};

std::set<std::pair<int64_t, int64_t>> chunks_of(int64_t n, int64_t grain) {
  std::mutex mutex;
  std::set<std::pair<int64_t, int64_t>> chunks;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    CHECK(chunks.emplace(begin, end).second);
  });
  return chunks;
}

TEST_CASE("parallel_for: chunks depend on n and grain only") {
  using Chunks = std::set<std::pair<int64_t, int64_t>>;
  for (const int threads : {1, 2, 3, 8}) {
    CAPTURE(threads);
    const Threads bound(threads);
    CHECK(weft::num_threads() == threads);
    CHECK(chunks_of(10, 4) == Chunks{{0, 4}, {4, 8}, {8, 10}});
    CHECK(chunks_of(3, 0) == Chunks{{0, 1}, {1, 2}, {2, 3}});
    CHECK(chunks_of(4, 4) == Chunks{{0, 4}});
    CHECK(chunks_of(1, INT64_MAX) == Chunks{{0, 1}});
    CHECK(chunks_of(0, 4).empty());
    CHECK(chunks_of(-5, 4).empty());
  }
}

TEST_CASE("parallel_for: every item once, in many short jobs") {
  const Threads bound(4);
  std::vector<int> hits(1000);
  for (int job = 1; job <= 2000; ++job) {
    parallel_for(1000, 37, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
  }
  for (const int hit : hits) CHECK_EQ(hit, 2000);
}

TEST_CASE("parallel_for: more than one thread works") {
  const Threads bound(2);
  std::atomic<int> arrived{0};
  parallel_for(2, 1, [&](int64_t, int64_t) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();  // ends only if both chunks run at the same time
  });
  CHECK(arrived == 2);
}

TEST_CASE("parallel_for: never more threads than allowed, nested or not") {
  const Threads bound(3);
  std::atomic<int> now{0}, most{0};
  parallel_for(64, 1, [&](int64_t, int64_t) {
    parallel_for(8, 1, [&](int64_t, int64_t) {
      const int running = ++now;
      int seen = most.load();
      while (running > seen && !most.compare_exchange_weak(seen, running)) {
      }
      std::this_thread::yield();
      --now;
    });
  });
  CHECK(most <= 3);
}

TEST_CASE("parallel_for: an exception reaches the caller and leaves the pool usable") {
  for (const int threads : {1, 4}) {
    const Threads bound(threads);
    for (int round = 0; round < 100; ++round) {
      CHECK_THROWS_WITH_AS(parallel_for(100, 1,
                                        [](int64_t begin, int64_t) {
                                          if (begin % 10 == 7) throw std::runtime_error("chunk failed");
                                        }),
                           "chunk failed", std::runtime_error);
    }
    CHECK(chunks_of(100, 1).size() == 100);
  }
}

TEST_CASE("parallel_for: several callers at once, and the bound changed meanwhile") {
  const Threads bound(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int job = 0; job < 300; ++job) {
        if (caller == 0 && job % 50 == 0) weft::set_num_threads(1 + job / 50 % 4);
        parallel_for(50, 3, [&](int64_t begin, int64_t end) { total += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(total == 4 * 300 * 50);
}

TEST_CASE("parallel_for: partial sums a chunk give the same bits for any number of threads") {
  const auto sum = [] {
    std::vector<float> parts(100);
    parallel_for(100000, 1000, [&](int64_t begin, int64_t end) {
      float part = 0;
      for (int64_t i = begin; i < end; ++i) part += 1.0f / static_cast<float>(i + 1);
      parts[static_cast<size_t>(begin / 1000)] = part;
    });
    float all = 0;
    for (const float part : parts) all += part;
    return all;
  };
  std::set<float> results;
  for (const int threads : {1, 2, 3, 8}) {
    const Threads bound(threads);
    results.insert(sum());
  }
  CHECK(results.size() == 1);
}

}  // namespace
