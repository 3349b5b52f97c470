// Sorting and selecting by key: an element becomes an unsigned number that rises as it should come, followed by its
// position. Such keys are all different, so every algorithm gives the one stable order. Elements of up to 32 bits (and
// rows of integers that span less than 2³²) and their position fit in one 64-bit word.
#include <weft/cpu/simd.h>
#include <weft/cpu/strided.h>
#include <weft/ops/scan_op.h>

#include <cmath>

namespace weft::cpu {

// --- keys ------------------------------------------------------------------------------------------------------------

namespace {

// Unsigned and in the order of v: negative numbers have their bits flipped, others the sign bit; NaN comes last and
// both zeros are one.
uint32_t ordered(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v + 0.0f), key = u ^ (u >> 31 ? ~uint32_t{0} : uint32_t{1} << 31);
  return v != v ? ~uint32_t{0} : key;
}
uint64_t ordered(double v) {
  const uint64_t u = std::bit_cast<uint64_t>(v + 0.0), key = u ^ (u >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
  return v != v ? ~uint64_t{0} : key;
}
uint64_t ordered(int64_t v) { return static_cast<uint64_t>(v) ^ (uint64_t{1} << 63); }

// 32-bit keys above a 32-bit position.
struct Packed {
  uint64_t bits;
  static constexpr int kDigits = 4;  // bytes of the key
  static Packed make(uint64_t key, int64_t at) { return {key << 32 | static_cast<uint64_t>(at)}; }
  uint64_t key() const { return bits >> 32; }
  int64_t position() const { return static_cast<int64_t>(bits & 0xffffffffu); }
  bool operator<(const Packed& o) const { return bits < o.bits; }
};
struct Wide {
  uint64_t bits, at;
  static constexpr int kDigits = 8;
  static Wide make(uint64_t key, int64_t at) { return {key, static_cast<uint64_t>(at)}; }
  uint64_t key() const { return bits; }
  int64_t position() const { return static_cast<int64_t>(at); }
  bool operator<(const Wide& o) const { return bits != o.bits ? bits < o.bits : at < o.at; }
};

constexpr int64_t kPackedSize = int64_t{1} << 32;

// How a row's elements become keys: a function from the element to an unsigned number below 2³² or 2⁶⁴.
// run(key type, function) is called with the narrowest that will do.
template <class C, class Run>
void with_keys(const C* row, int64_t n, bool falling, Run&& run) {
  if constexpr (std::is_same_v<C, float>) {
    const uint32_t flip = falling ? ~uint32_t{0} : 0;
    auto key = [flip](float v) -> uint32_t { return ordered(v) ^ flip; };
    n < kPackedSize ? run(Type<Packed>{}, key) : run(Type<Wide>{}, key);
  } else {
    const uint64_t flip = falling ? ~uint64_t{0} : 0;
    if constexpr (std::is_same_v<C, int64_t>) {
      const auto [low, high] = std::minmax_element(row, row + n);
      const uint64_t first = ordered(falling ? *high : *low) ^ flip, last = ordered(falling ? *low : *high) ^ flip;
      if (last - first < uint64_t{kPackedSize} && n < kPackedSize) {
        run(Type<Packed>{}, [flip, first](int64_t v) { return static_cast<uint32_t>((ordered(v) ^ flip) - first); });
        return;
      }
    }
    run(Type<Wide>{}, [flip](C v) -> uint64_t { return ordered(v) ^ flip; });
  }
}

// The compute type's copy of a row, or the row itself.
template <class C>
const C* row_of(const Tensor& x, int64_t row, int64_t n, std::vector<C>& buffer) {
  if (x.dtype() == dtype_of<C>()) return x.data<C>() + row * n;
  buffer.resize(static_cast<size_t>(n));
  load(x, row * n, 1, n, buffer.data());
  return buffer.data();
}

// f(row's elements, row) for all rows of [rows, n], in parallel; scratch lives as long as a chunk.
template <class Scratch, class F>
void for_rows(const Tensor& x, F&& f) {
  const int64_t n = x.shape().back();
  if (x.numel() == 0) return;
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
    parallel_for(x.numel() / n, std::max<int64_t>(1, kGrain / 4 / n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer;
      Scratch scratch;
      for (int64_t r = begin; r < end; ++r) f(row_of(x, r, n, buffer), r, scratch);
    });
  });
}

// Room for keys of either kind.
struct KeyScratch {
  std::vector<uint64_t> memory, keys64, low64;
  std::vector<uint32_t> keys32, low32;
  std::vector<uint32_t>& keys(uint32_t) { return keys32; }
  std::vector<uint64_t>& keys(uint64_t) { return keys64; }
  std::vector<uint32_t>& low(uint32_t) { return low32; }
  std::vector<uint64_t>& low(uint64_t) { return low64; }
  template <class K>
  K* get(int64_t n) {
    const auto words = static_cast<size_t>(n) * (sizeof(K) / sizeof(uint64_t));
    if (memory.size() < words) memory.resize(words);
    return reinterpret_cast<K*>(memory.data());
  }
};

}  // namespace

// --- sorting ---------------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kSmall = 96;  // rows below this sort by comparison

// Least significant byte first; a byte that all keys share is skipped. Returns where the sorted keys are: a or b.
template <class K>
K* radix_sort(K* a, K* b, int64_t n) {
  int64_t count[K::kDigits][256] = {};
  for (int64_t i = 0; i < n; ++i) {
    for (int d = 0; d < K::kDigits; ++d) ++count[d][a[i].key() >> (8 * d) & 0xff];
  }
  for (int d = 0; d < K::kDigits; ++d) {
    if (count[d][a[0].key() >> (8 * d) & 0xff] == n) continue;
    int64_t start[256], sum = 0;
    for (int v = 0; v < 256; ++v) start[v] = sum, sum += count[d][v];
    for (int64_t i = 0; i < n; ++i) b[start[a[i].key() >> (8 * d) & 0xff]++] = a[i];
    std::swap(a, b);
  }
  return a;
}

template <class K, class C, class Key>
K* sorted_keys(const C* row, int64_t n, Key key, KeyScratch& scratch) {
  K* keys = scratch.get<K>(2 * n);
  for (int64_t i = 0; i < n; ++i) keys[i] = K::make(key(row[i]), i);
  if (n >= kSmall) return radix_sort(keys, keys + n, n);
  std::sort(keys, keys + n);
  return keys;
}

}  // namespace

void argsort(const Tensor& x, bool descending, Tensor& indices) {
  const int64_t n = x.shape().back();
  int64_t* out = indices.data<int64_t>();
  for_rows<KeyScratch>(x, [&](const auto* row, int64_t r, KeyScratch& scratch) {
    with_keys(row, n, descending, [&]<class K>(Type<K>, auto key) {
      const K* keys = sorted_keys<K>(row, n, key, scratch);
      for (int64_t i = 0; i < n; ++i) out[r * n + i] = keys[i].position();
    });
  });
}

// --- the k first -----------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kGroup = 16;  // keys that are passed over together

// The loops that vectorized() compiles take what they use by value: through a reference the compiler would have to
// expect it to change.
template <class C, class U, class Key>
void make_keys(const C* row, int64_t n, Key key, U* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = key(row[i]);
}

// lane[j] becomes the smallest of keys[j], keys[j + lanes], ...
template <class U>
void lowest_of_lanes(const U* keys, int64_t n, U* __restrict lane, int64_t lanes) {
  for (int64_t i = 0; i < n; i += lanes) {
    const int64_t m = std::min(lanes, n - i);
    for (int64_t j = 0; j < m; ++j) lane[j] = std::min(lane[j], keys[i + j]);
  }
}

// Finds the keys up to limit, with their positions; returns how many. Most groups of a long row hold none.
template <class K, class U>
int64_t collect(const U* keys, int64_t n, U limit, K* __restrict found) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kGroup) {
    const int64_t m = std::min(kGroup, n - i);
    if (m == kGroup) {
      bool none = true;
      for (int64_t j = 0; j < kGroup; ++j) none &= keys[i + j] > limit;
      if (none) continue;
    }
    for (int64_t j = 0; j < m; ++j) {
      found[count] = K::make(keys[i + j], i + j);
      count += keys[i + j] <= limit;
    }
  }
  return count;
}

// A bound that at least k of the n keys do not pass: the row is dealt out to 2k lanes or a little more, and the k-th
// smallest of the lanes' smallest keys is one that k lanes have a key up to. Few other keys are below it.
template <class U>
U bound(const U* keys, int64_t n, int64_t k, std::vector<U>& low) {
  const int64_t lanes = (2 * k + 31) / 32 * 32;
  low.assign(static_cast<size_t>(lanes), ~U{0});
  vectorized([&] { lowest_of_lanes(keys, n, low.data(), lanes); });
  std::nth_element(low.begin(), low.begin() + (k - 1), low.end());
  return low[static_cast<size_t>(k - 1)];
}

// The k smallest keys of a row, in any order unless sorted.
template <class K, class C, class Key>
K* smallest(const C* row, int64_t n, int64_t k, bool sorted, Key key, KeyScratch& scratch) {
  using U = decltype(key(C()));
  const bool most = 4 * k > n;  // then a bound would not spare much
  if (most && n >= kSmall) return sorted_keys<K>(row, n, key, scratch);
  K* found = scratch.get<K>(n + 1);
  int64_t count = n;
  if (most) {
    for (int64_t i = 0; i < n; ++i) found[i] = K::make(key(row[i]), i);
  } else {
    std::vector<U>&keys = scratch.keys(U()), &low = scratch.low(U());
    keys.resize(static_cast<size_t>(n));
    vectorized([&] { make_keys(row, n, key, keys.data()); });
    const U limit = bound(keys.data(), n, k, low);
    vectorized([&] { count = collect(keys.data(), n, limit, found); });
  }
  if (count > k) std::nth_element(found, found + k - 1, found + count);
  if (sorted) std::sort(found, found + k);
  return found;
}

}  // namespace

void topk(const Tensor& x, bool largest, bool sorted, Tensor& indices) {
  const int64_t n = x.shape().back(), k = indices.shape().back();
  if (k == 0) return;
  int64_t* out = indices.data<int64_t>();
  for_rows<KeyScratch>(x, [&](const auto* row, int64_t r, KeyScratch& scratch) {
    with_keys(row, n, largest, [&]<class K>(Type<K>, auto key) {
      const K* found = smallest<K>(row, n, k, sorted, key, scratch);
      for (int64_t i = 0; i < k; ++i) out[r * k + i] = found[i].position();
    });
  });
}

// --- extremes --------------------------------------------------------------------------------------------------------

namespace {

// Small keys win, and NaN has the smallest.
template <class C, class U>
U rank(C v, U flip) {
  return v != v ? U{0} : ordered(v) ^ flip;
}

template <class C, class U>
U lowest_rank(const C* v, int64_t n, U flip) {
  constexpr int64_t kLanes = 64;
  U lane[kLanes];
  std::fill(lane, lane + kLanes, ~U{0});
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lane[j] = std::min(lane[j], rank(v[i + j], flip));
  }
  for (int64_t j = 0; i < n; ++i, ++j) lane[j] = std::min(lane[j], rank(v[i], flip));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lane[j] = std::min(lane[j], lane[j + half]);
  }
  return lane[0];
}

// The first of n elements that has the given rank; one of them does.
template <class C, class U>
int64_t find_rank(const C* v, int64_t n, U flip, U wanted) {
  int64_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    bool none = true;
    for (int64_t j = 0; j < kGroup; ++j) none &= rank(v[i + j], flip) != wanted;
    if (!none) break;
  }
  while (rank(v[i], flip) != wanted) ++i;
  return i;
}

// Of a row that runs through memory with the given stride: the best of a block first, its place only where it beats all
// before.
template <class C>
int64_t find_in_row(bool largest, const Tensor& x, int64_t offset, int64_t stride, int64_t n) {
  using U = decltype(ordered(C()));
  const U flip = largest ? ~U{0} : U{0};
  In<C> in(x, stride);
  U best = ~U{0};
  int64_t where = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    const C* v = in.block(offset + begin * stride, m);
    vectorized([&] {
      const U lowest = lowest_rank(v, m, flip);
      if (lowest >= best && begin > 0) return;
      best = lowest;
      where = begin + find_rank(v, m, flip, lowest);
    });
  }
  return where;
}

constexpr int64_t kStrip = 256;

// Of n neighbouring lanes at once.
template <class C>
void find_across(bool largest, const Tensor& x, int64_t offset, int64_t step, int64_t length, int64_t stride, int64_t n,
                 int64_t* out) {
  In<C> in(x, stride);
  alignas(64) C best[kStrip];
  alignas(64) int64_t where[kStrip] = {};
  std::copy_n(in.block(offset, n), n, best);
  for (int64_t t = 1; t < length; ++t) {
    const C* v = in.block(offset + t * step, n);
    for (int64_t i = 0; i < n; ++i) {
      const bool better = beats(largest, v[i], best[i]);
      best[i] = better ? v[i] : best[i];
      where[i] = better ? t : where[i];
    }
  }
  std::copy_n(where, n, out);
}

}  // namespace

void arg_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  const int64_t length = x.shape()[dim], step = x.strides()[dim];
  const Tensor lanes = as_strided_raw(x, indices.shape(), x.strides(), x.impl().offset);
  const Loop<2> loop(indices.shape(), {&indices, &lanes});
  int64_t* out = indices.data<int64_t>();
  const bool across = loop.numel > 1 && std::abs(loop.inner_stride(1)) < std::abs(step);
  const int64_t longest = across ? kStrip : 1;
  const int64_t grain = std::max(longest, kGrain / std::max<int64_t>(length, 1) / longest * longest);
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
    parallel_for(loop.numel, grain, [&](int64_t begin, int64_t end) {
      loop.runs(begin, end, longest, [&](const auto& at, int64_t n) {
        if (n > 1)
          find_across<C>(largest, x, at[1], step, length, loop.inner_stride(1), n, out + at[0]);
        else
          out[at[0]] = find_in_row<C>(largest, x, at[1], step, length);
      });
    });
  });
}

// --- searching -------------------------------------------------------------------------------------------------------

void searchsorted(const Tensor& sequence, const Tensor& values, bool right, Tensor& positions) {
  const int64_t n = sequence.shape().back(), m = values.shape().back();
  const bool shared = sequence.shape()[0] == 1;
  int64_t* out = positions.data<int64_t>();
  dispatch_all(values.dtype(), [&]<class T>(Type<T>) {
    const T* sorted = sequence.data<T>();
    const T* v = values.data<T>();
    auto less = [](T a, T b) {  // NaN is the largest
      const auto p = static_cast<acc_t<T>>(a), q = static_cast<acc_t<T>>(b);
      return p < q || (q != q && p == p);
    };
    parallel_for(values.numel(), kGrain / 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = sorted + (shared ? 0 : i / m * n);
        out[i] =
            (right ? std::upper_bound(row, row + n, v[i], less) : std::lower_bound(row, row + n, v[i], less)) - row;
      }
    });
  });
}

}  // namespace weft::cpu
