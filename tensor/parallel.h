// A bounded thread pool behind one function: parallel_for.
//
// Work of n items is cut into chunks of `grain` items; which thread runs a chunk is left to chance, where a chunk
// begins and ends is not. Code that writes one result a chunk (or a partial sum a chunk, added up in order afterwards)
// therefore gives the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <type_traits>

namespace weft {

namespace detail {

/// A reference to a callable of (begin, end): two pointers, nothing owned, nothing allocated.
struct ChunkFn {
  void* object;
  void (*call)(void* object, int64_t begin, int64_t end);
};

void parallel_chunks(int64_t n, int64_t grain, ChunkFn fn);

}  // namespace detail

/// Calls fn(begin, end) once for every chunk [i·grain, min(n, (i+1)·grain)) of [0, n), possibly at the same time on
/// several threads, and returns when all are done. The calling thread works too.
///
/// Runs in the calling thread, chunk by chunk and in order, when n <= grain, when one thread is allowed, inside another
/// parallel_for, or while another thread's parallel_for holds the pool. The first exception thrown by fn is rethrown
/// here; chunks not begun by then are skipped. n <= 0 does nothing; a grain below 1 counts as 1.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& fn) {
  if (n <= 0) return;
  if (n <= grain) {
    fn(int64_t{0}, n);
    return;
  }
  using Fn = std::remove_reference_t<F>;
  const auto call = [](void* object, int64_t begin, int64_t end) { (*static_cast<Fn*>(object))(begin, end); };
  detail::parallel_chunks(n, grain, {const_cast<void*>(static_cast<const void*>(&fn)), call});
}

/// How many threads a parallel_for may use, the caller included. At first the environment variable WEFT_NUM_THREADS,
/// else the number of hardware threads.
int num_threads();

/// Bounds the pool to n threads, the caller included; n < 1 goes back to the first value. Takes effect at the
/// next parallel_for; threads are started when first needed, and if the system refuses some, the others do the work.
void set_num_threads(int n);

}  // namespace weft
