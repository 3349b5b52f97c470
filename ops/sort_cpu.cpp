// Sorting and selecting by key: an element becomes an unsigned number that rises as it should come, followed by its
// position. Such keys are all different, so every algorithm gives the one stable order. Elements of up to 32 bits (and
// rows of integers that span less than 2³²) and their position fit in one 64-bit word.
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
  std::vector<uint64_t> memory;
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

}  // namespace

void argsort(const Tensor& x, bool descending, Tensor& indices) {
  const int64_t n = x.shape().back();
  int64_t* out = indices.data<int64_t>();
  for_rows<KeyScratch>(x, [&](const auto* row, int64_t r, KeyScratch& scratch) {
    with_keys(row, n, descending, [&]<class K>(Type<K>, auto key) {
      K* keys = scratch.get<K>(2 * n);
      for (int64_t i = 0; i < n; ++i) keys[i] = K::make(key(row[i]), i);
      if (n < kSmall)
        std::sort(keys, keys + n);
      else
        keys = radix_sort(keys, keys + n, n);
      for (int64_t i = 0; i < n; ++i) out[r * n + i] = keys[i].position();
    });
  });
}

// --- the k first -----------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kGroup = 64;  // elements that are passed over together

// The k smallest keys of a row, to the front of keys in any order. Candidates below the k-th smallest so far are
// collected in room for `capacity` keys; when that is full, they are cut down to k. Most groups of a long row hold
// none.
template <class K, class C, class Key>
void select_smallest(const C* row, int64_t n, int64_t k, Key key, K* keys, int64_t capacity) {
  using U = decltype(key(C()));
  U limit = ~U{0};
  int64_t count = 0;
  auto cut = [&] {
    std::nth_element(keys, keys + k - 1, keys + count);
    count = k;
    limit = static_cast<U>(keys[k - 1].key());
  };
  U group[kGroup];
  for (int64_t i = 0; i < n; i += kGroup) {
    const int64_t m = std::min(kGroup, n - i);
    U lowest = ~U{0};
    for (int64_t j = 0; j < m; ++j) {
      group[j] = key(row[i + j]);
      lowest = std::min(lowest, group[j]);
    }
    if (lowest > limit) continue;
    if (count + m > capacity) cut();
    for (int64_t j = 0; j < m; ++j) {
      keys[count] = K::make(group[j], i + j);
      count += group[j] <= limit;
    }
  }
  if (count > k) cut();
}

}  // namespace

void topk(const Tensor& x, bool largest, bool sorted, Tensor& indices) {
  const int64_t n = x.shape().back(), k = indices.shape().back();
  if (k == 0) return;
  const int64_t capacity = std::min(n, 2 * k + 4 * kGroup) + kGroup;
  int64_t* out = indices.data<int64_t>();
  for_rows<KeyScratch>(x, [&](const auto* row, int64_t r, KeyScratch& scratch) {
    with_keys(row, n, largest, [&]<class K>(Type<K>, auto key) {
      K* keys = scratch.get<K>(capacity + 1);
      select_smallest(row, n, k, key, keys, capacity);
      if (sorted) std::sort(keys, keys + k);
      for (int64_t i = 0; i < k; ++i) out[r * k + i] = keys[i].position();
    });
  });
}

// --- extremes --------------------------------------------------------------------------------------------------------

namespace {

// Of a row that runs through memory with the given stride. The extreme of a block is found first, its place only where
// it beats what came before.
template <class C>
int64_t find_in_row(bool largest, const Tensor& x, int64_t offset, int64_t stride, int64_t n) {
  In<C> in(x, stride);
  C best = 0;
  int64_t where = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    const C* v = in.block(offset + begin * stride, m);
    constexpr int64_t kLanes = 32;
    C lane[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) lane[j] = v[0];
    bool nan = false;
    int64_t i = 0;
    for (; i + kLanes <= m; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const C a = v[i + j];
        lane[j] = (largest ? a > lane[j] : a < lane[j]) ? a : lane[j];
        nan |= a != a;
      }
    }
    for (; i < m; ++i) {
      lane[0] = (largest ? v[i] > lane[0] : v[i] < lane[0]) ? v[i] : lane[0];
      nan |= v[i] != v[i];
    }
    C extreme = lane[0];
    for (int64_t j = 1; j < kLanes; ++j)
      extreme = (largest ? lane[j] > extreme : lane[j] < extreme) ? lane[j] : extreme;
    if (nan) return begin + (std::find_if(v, v + m, [](C a) { return a != a; }) - v);
    if (begin == 0 || beats(largest, extreme, best)) {
      best = extreme;
      where = begin + (std::find(v, v + m, extreme) - v);
    }
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
